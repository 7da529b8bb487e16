"""Text generation: the engine protocol, the engine in this process, and the Ray actor that hosts one."""
