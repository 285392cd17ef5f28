"""Run exported models with NumPy, Pillow and ONNX Runtime, without PyTorch or scikit-learn."""
