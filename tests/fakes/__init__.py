"""Stand-ins for packages that need large models. With this folder on PYTHONPATH they are imported
instead of the real ones, in other processes, too."""
