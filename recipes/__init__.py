"""How the routers that ship were chosen and made. Not part of the wheel."""
