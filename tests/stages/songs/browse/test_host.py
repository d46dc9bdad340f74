"""Where `browse` listens: an address of this machine, or a line that says so."""

import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.songs.browse.server import check_host


@pytest.mark.parametrize("host", ["0.0.0.0.0", "a name with blanks", "192.0.2.1", "2001:db8::1", "a..b", "x" * 300])
def test_what_is_no_address_of_this_machine_is_told_by_its_option(host: str) -> None:
    """192.0.2.0/24 and 2001:db8::/32 are for documentation (RFC 5737, RFC 3849): no machine has them."""
    with pytest.raises(MixstyleError) as caught:
        check_host(host)
    assert (caught.value.code, f"--host {host}" in str(caught.value)) == ("bad-option", True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_addresses_of_this_machine_are_taken(host: str) -> None:
    check_host(host)
