"""The last stages of a network trained together with the output layer."""
