"""Git and DVC: the only room that asks DVC."""
