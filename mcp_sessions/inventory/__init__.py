"""What the admin and the shell read: the records, principals and nodes of every endpoint."""
