print("pdrop-run")
