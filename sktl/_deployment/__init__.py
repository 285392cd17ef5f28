"""Export fitted estimators to files that run without sktl, and verify each file in its own runtime."""
