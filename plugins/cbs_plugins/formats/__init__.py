"""File formats that several plugins share: pictures, media, ONNX. No plugin."""
