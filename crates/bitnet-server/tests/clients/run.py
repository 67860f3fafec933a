"""Runs the tests of a module, each a function whose name begins so."""


def run(module, title):
    tests = [test for name, test in list(module.items()) if name.startswith("test_")]
    for test in tests:
        test()
        print(f"ok  {test.__name__}", flush=True)
    print(f"{len(tests)} passed: {title}", flush=True)
