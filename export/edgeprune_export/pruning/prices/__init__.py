"""What a share of a part costs: parameters, MACs, bytes, seconds or joules, linear in groups and channels."""
