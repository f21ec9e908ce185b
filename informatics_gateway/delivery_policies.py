# SPDX-License-Identifier: Apache-2.0
"""From the settings of destinations to how the task manager serves them, whatever their kind."""

from __future__ import annotations

from datetime import timedelta

from informatics_gateway.destination_settings import (
    DestinationSettings,
    DicomDestination,
    FilterSettings,
    RateSettings,
)
from informatics_gateway.settings import Settings
from task_manager.delivery.breaker import BreakerPolicy
from task_manager.delivery.policy import CommitmentPolicy, DeliveryPolicy, ResultFilter
from task_manager.outbox import RetryPolicy

_PROBE_JITTER = 0.1


def delivery_policies(settings: Settings) -> tuple[DeliveryPolicy, ...]:
    """How each destination is served, in the order of the configuration."""
    return tuple(_policy(destination) for destination in settings.destinations)


def _policy(destination: DestinationSettings) -> DeliveryPolicy:
    retry, breaker = destination.retry, destination.breaker
    return DeliveryPolicy(
        name=destination.name,
        parallel=destination.parallel,
        interval_s=_interval_s(destination.rate),
        burst=destination.rate.burst,
        retry=RetryPolicy(
            first=timedelta(seconds=retry.first_s),
            most=timedelta(seconds=retry.most_s),
            jitter=retry.jitter,
        ),
        give_up=timedelta(hours=retry.give_up_h) if retry.give_up_h else None,
        breaker=BreakerPolicy(
            failures=breaker.failures,
            pause=RetryPolicy(
                first=timedelta(seconds=breaker.pause_s),
                most=timedelta(seconds=breaker.most_pause_s),
                jitter=_PROBE_JITTER,
            ),
        ),
        commitment=_commitment(destination),
        results=_filter(destination.filter),
    )


def _interval_s(rate: RateSettings) -> float:
    """Seconds between two turns, by the stricter of the two limits; 0 where there is none."""
    by_second = 1 / rate.per_second if rate.per_second else 0.0
    by_minute = 60 / rate.per_minute if rate.per_minute else 0.0
    return max(by_second, by_minute)


def _commitment(destination: DestinationSettings) -> CommitmentPolicy:
    if not isinstance(destination, DicomDestination):
        return CommitmentPolicy()
    asked = destination.commitment
    return CommitmentPolicy(mode=asked.mode, timeout=timedelta(seconds=asked.timeout_s), rounds=asked.rounds)


def _filter(asked: FilterSettings) -> ResultFilter:
    return ResultFilter(apps=asked.apps, rules=asked.rules, when=asked.when, objects=asked.objects)
