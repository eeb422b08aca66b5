"""E-mail addresses: checked by their syntax and brought into the one form in which they are
compared.
"""

from __future__ import annotations

import email_validator

from services.common.errors import InvalidArgument

# An installation of one's own may well use names that the public net does not (RFC 6761), such as
# `.local`; the library documents this list as the place to allow them.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def normalised(field: str, address: str) -> str:
    """The address in lower case with a normalised domain. InvalidArgument naming `field` where it
    is none.
    """
    try:
        found = email_validator.validate_email(
            address.strip(), check_deliverability=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError as error:
        raise InvalidArgument.of(field, "is not an e-mail address") from error
    return found.normalized.lower()
