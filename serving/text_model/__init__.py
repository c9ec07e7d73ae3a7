"""The text model: texts -> vectors, which class vectors and typed labels are made from. No torch."""
