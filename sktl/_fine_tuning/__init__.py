"""Train the last stages of a network together with the output layer."""
