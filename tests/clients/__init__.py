"""Clients that others wrote, each driven through the same steps: one session, served by whichever process is asked."""
