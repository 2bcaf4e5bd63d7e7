"""The page that shows one patient, and the page over all patients."""
