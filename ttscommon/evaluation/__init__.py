"""Is one voice better than another, by how much, how sure?"""
