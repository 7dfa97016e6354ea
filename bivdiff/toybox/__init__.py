"""The built-in family: a ray-traced world, small models that know it, and how their weights are made."""
