"""HTTP: the resources that servers offer, and the clients that servers use between themselves."""
