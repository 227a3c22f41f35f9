"""Searched schedules, drawn: what each costs against its price."""
