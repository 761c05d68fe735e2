"""This process among the others: heartbeat, inbox, notifications, and requests to clients."""
