"""Commands about boards: devices, project, recommend."""
