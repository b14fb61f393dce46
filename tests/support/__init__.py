"""What tests need to play a camera: sample pictures, odd answers, a scripted server."""
