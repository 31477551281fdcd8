"""The engine of this process: continuous batching over the policy, versions taken in while it serves."""
