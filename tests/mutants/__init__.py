"""Would the tests notice? Mutation testing with mutmut: `make mutants`."""
