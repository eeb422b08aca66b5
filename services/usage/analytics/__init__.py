"""What analysts query: one file a view, named as the view is. They are made again at each start."""
