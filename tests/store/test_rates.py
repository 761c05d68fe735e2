"""Token buckets: what every driver promises."""

from mcp_sessions.conf.rates import limits_of
from mcp_sessions.store import keys
from mcp_sessions.store.calls import rates
from mcp_sessions.store.calls.rates import Bucket, Lacking, Who
from mcp_sessions.store.drivers import Store
from tests.store.harness import Harness, gather

ANN = Who("issuer|ann", "a" * 64, "192.0.2.1")
BOB = Who("issuer|bob", "b" * 64, "192.0.2.2")


def buckets(harness: Harness, who: Who, *whats: str, **limits: str) -> list[Bucket]:
    """Those of a request; underscores stand for spaces."""
    setting = {name.replace("_", " "): rate for name, rate in limits.items()}
    return rates.buckets(limits_of(setting), whats or ("requests",), who, shards=harness.limits.shards)


async def take(store: Store, wanted: list[Bucket]) -> Lacking | None:
    """Take a token from each; the first that lacks one."""
    verdicts = await store.run_all(rates.spend(wanted))
    return next((each for each in verdicts if each is not None), None)


async def test_a_bucket_gives_what_it_holds_and_fills_evenly(harness: Harness) -> None:
    wanted = buckets(harness, ANN, requests_per_principal="4/m")
    assert [await take(harness.store, wanted) for _ in range(4)] == [None] * 4
    lacking = await take(harness.other, wanted)
    assert lacking is not None
    assert str(lacking.bucket.limit) == "requests per principal"
    assert 0 < lacking.wait_ms <= 15_000
    harness.advance(lacking.wait_ms)
    assert await take(harness.store, wanted) is None
    assert await take(harness.store, wanted) is not None, "one token came back"
    harness.advance(60_000)
    assert [await take(harness.store, wanted) is None for _ in range(5)] == [True] * 4 + [False]
    harness.advance(1_000_000)
    assert [await take(harness.store, wanted) is None for _ in range(5)] == [True] * 4 + [False]


async def test_of_requests_at_the_same_moment_exactly_so_many_pass_as_there_are_tokens(
    harness: Harness,
) -> None:
    wanted = buckets(harness, ANN, requests_per_principal="30/d")
    stores = [harness.store, harness.other] * 50
    verdicts = await gather(*(take(store, wanted) for store in stores))
    assert verdicts.count(None) == 30


async def test_a_refused_request_takes_nothing_from_what_is_in_the_same_place(harness: Harness) -> None:
    both = {"requests_per_session": "1/h", "requests_per_principal": "3/h"}
    assert await take(harness.store, buckets(harness, ANN, **both)) is None
    for _ in range(5):
        lacking = await take(harness.store, buckets(harness, ANN, **both))
        assert lacking is not None
        assert lacking.bucket.limit.whom == "session"
    elsewhere = ANN._replace(session="c" * 64)
    assert await take(harness.store, buckets(harness, elsewhere, **both)) is None
    assert await take(harness.store, buckets(harness, ANN._replace(session="d" * 64), **both)) is None
    lacking = await take(harness.store, buckets(harness, ANN._replace(session="e" * 64), **both))
    assert lacking is not None
    assert lacking.bucket.limit.whom == "principal"


async def test_each_has_buckets_of_its_own(harness: Harness) -> None:
    for whom in ("principal", "session", "address"):
        setting = {f"requests_per_{whom}": "1/h", f"streams_per_{whom}": "1/h"}
        assert await take(harness.store, buckets(harness, ANN, **setting)) is None
        assert await take(harness.store, buckets(harness, ANN, **setting)) is not None
        assert await take(harness.store, buckets(harness, BOB, **setting)) is None
        assert await take(harness.store, buckets(harness, ANN, "streams", **setting)) is None


async def test_a_bucket_of_another_rate_is_full_in_its_own_time_at_the_latest(harness: Harness) -> None:
    slow = buckets(harness, ANN, requests_per_principal="1/d")
    quick = buckets(harness, ANN, requests_per_principal="1/s")
    assert await take(harness.store, slow) is None
    lacking = await take(harness.store, quick)
    assert lacking is not None
    assert lacking.wait_ms <= 1000


def test_nobody_in_particular_shares_no_bucket() -> None:
    limits = limits_of({"requests per principal": "1/h", "requests per address": "1/h"})
    anonymous = Who("anonymous", None, None)
    assert rates.buckets(limits, ("requests",), anonymous, shards=1) == []


def places_of(who: Who, *, shards: int) -> dict[str, tuple[str, str]]:
    """Where the buckets of a request are, by for whom they are."""
    limits = limits_of({f"requests per {whom}": "1/h" for whom in ("principal", "session", "address")})
    found = rates.buckets(limits, ("requests",), who, shards=shards)
    assert len(rates.spend(found)) == len({bucket.home for bucket in found})
    return {bucket.limit.whom: (bucket.home, bucket.part) for bucket in found}


def test_buckets_of_a_principal_are_in_one_place_and_those_of_an_address_are_shared() -> None:
    of_ann = places_of(ANN, shards=16)
    of_bob = places_of(BOB._replace(address=ANN.address), shards=16)
    for whose, who in ((of_ann, ANN), (of_bob, BOB)):
        assert whose["principal"][0] == whose["session"][0] == keys.home_of_principal(who.principal)
    home, part = of_ann["address"]
    assert of_bob["address"] == (home, part)
    assert home == keys.home_of(part.removeprefix("rate:"))
    assert {home for home, _ in places_of(ANN, shards=1).values()} == {"@0000"}


def test_buckets_of_anonymous_sessions_are_all_over_the_shards() -> None:
    for session in "abc":
        # Equal to the constant, and not the same object.
        principal = b"anonymous".decode()
        found = places_of(Who(principal, session * 64, "192.0.2.1"), shards=16)
        assert set(found) == {"session", "address"}
        for home, part in found.values():
            assert home == keys.home_of(part.removeprefix("rate:"))


def test_addresses_of_one_network_share_a_bucket_in_ipv6() -> None:
    limits = limits_of({"requests per address": "1/h"})

    def part(address: str) -> str:
        [bucket] = rates.buckets(limits, ("requests",), Who("anonymous", None, address), shards=1)
        return bucket.part

    assert part("2001:db8:1:2::1") == part("2001:db8:1:2:ffff::9")
    assert part("2001:db8:1:2::1") != part("2001:db8:1:3::1")
    assert part("fe80::1%eth0") == part("fe80::2")
    assert part("192.0.2.1") != part("192.0.2.2")
