"""How many samples a second training does, by stage, beside the plain recipe."""
