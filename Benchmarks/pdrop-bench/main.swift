print("pdrop-bench")
