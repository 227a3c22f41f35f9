"""What one vendor's boards and drivers tell: Jetson files and rails, tegrastats lines, NVML."""
