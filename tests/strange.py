"""What strangers' code raises, beside plain errors."""


class Odd(BaseException):
    """Of a stranger's making."""


class Wordless(Exception):
    """Cannot be told."""

    def __str__(self) -> str:
        raise Odd

    def __repr__(self) -> str:
        return "Wordless()"
