"""The foundation that all five systems stand on."""
