"""How many samples a second training processes, beside a plain recipe."""
