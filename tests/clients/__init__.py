"""Clients that others wrote, each driven through the same story: one session, served by whichever process is asked."""
