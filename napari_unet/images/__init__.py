"""Images: files and layers as lazy arrays with named axes, and back."""
