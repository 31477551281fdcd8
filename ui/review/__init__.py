"""The review page, for whoever runs the server: reading votes through, voters, rounds of training, versions."""
