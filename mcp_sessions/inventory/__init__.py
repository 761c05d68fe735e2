"""What the admin and the shell read: sessions, principals and nodes of every endpoint."""
