"""The context networks that come with the program, known without importing PyTorch.

A module here is one of them, under its own name: ``PART`` says what it is, which options it has and
where its network is, which is imported when it is first asked for. Nothing else lists them.
"""
