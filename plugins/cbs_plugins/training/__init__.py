"""What is trained, by kind: tasks and what they are made of. No plugin."""
