# SPDX-License-Identifier: Apache-2.0
"""Which series, and which of their images, become an input: candidates, their ranking, and the reasons.

Ties are broken by Series Number, then by Series Instance UID (for images Instance Number, then SOP Instance
UID), so that equal studies give equal choices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from profiles.dicom_json import text
from task_manager.rules.acquisition import ImageHeader
from task_manager.rules.attributes import Seen, plain
from task_manager.rules.comparison import comparable, like, number
from task_manager.rules.explain import (
    ConditionOutcome,
    ImageOutcome,
    RequirementOutcome,
    SeriesOutcome,
    shortened,
)
from task_manager.rules.model import Direction, ImageChoice, Preference, SeriesRequirement, Take, Verdict
from task_manager.rules.program import Preparation, Prepared, all_of, shown
from task_manager.rules.scope import Scope, World, is_costly
from task_manager.study.model import Series

_SHOWN_IMAGES = 20
_LAST = float("inf")


class _Place(NamedTuple):
    """Where something ranks, smaller first; `told` are the values that put it there.

    Compared as a tuple: UIDs differ, so `told` never decides.
    """

    places: tuple[float, ...]
    number: float
    uid: str
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Image:
    """One image, without its header: a series may have thousands."""

    uid: str
    label: str
    where: ConditionOutcome
    place: _Place


@dataclass(slots=True)
class _Images:
    """What was found among the images of one series."""

    candidates: list[_Image] = field(default_factory=list)
    others: list[_Image] = field(default_factory=list)
    total: int = 0
    unknown: bool = False


class Selection:
    """One requirement, prepared."""

    def __init__(self, requirement: SeriesRequirement, preparation: Preparation) -> None:
        self.requirement = requirement
        self._where = preparation.condition(requirement.where)
        choice = requirement.images
        self._choice = choice
        of_images = choice.prefer if choice else ()
        self._asked = [_preferred(one) for one in (*requirement.prefer, *of_images)]
        self._image_where: Prepared | None = preparation.condition(choice.where) if choice else None
        self.is_costly = (
            choice is not None
            or self._where.costly
            or any(is_costly(one.reference) for one in requirement.prefer)
        )

    def outcome(
        self, world: World, *, settled: bool, approved: bool, taken: Mapping[str, Collection[str]]
    ) -> RequirementOutcome:
        """What becomes of the requirement.

        Parameters
        ----------
        settled
            The rule does not run anyway: headers of all images need not be read.
        approved
            A person has looked: no review.
        taken
            Series selected for earlier inputs, by their names.
        """
        study = world.study
        elsewhere = {uid: name for name in self.requirement.other_than for uid in taken.get(name, ())}
        outcomes = {
            series.series_instance_uid: self._series_outcome(world, series, settled)
            for series in study.series
        }
        fit = [
            series
            for series in study.series
            if outcomes[series.series_instance_uid].verdict is Verdict.TRUE
            and series.series_instance_uid not in elsewhere
        ]
        images = {} if settled else self._images(world, fit)
        candidates = [
            one
            for one in fit
            if self._choice is None or settled or images[one.series_instance_uid].candidates
        ]
        places = {one.series_instance_uid: self._place(world, one, images) for one in candidates}
        candidates.sort(key=lambda series: places[series.series_instance_uid])
        chosen = candidates if self.requirement.take is Take.ALL else candidates[:1]
        selected = tuple(series.series_instance_uid for series in chosen)
        chosen_images = self._chosen_images(selected, images)
        verdict = Verdict.TRUE if selected else Verdict.FALSE
        if not selected and (
            any(one.verdict is Verdict.UNKNOWN for one in outcomes.values())
            or any(found.unknown for found in images.values())
        ):
            verdict = Verdict.UNKNOWN
        ranked = [series.series_instance_uid for series in candidates]
        shown_images = {uid: self._shown_images(found, chosen_images) for uid, found in images.items()}
        return RequirementOutcome(
            name=self.requirement.name,
            verdict=verdict,
            selected=selected,
            series=tuple(
                SeriesOutcome(
                    series_instance_uid=uid,
                    label=world.label(series),
                    verdict=outcomes[uid].verdict,
                    selected=uid in selected,
                    reason=self._reason(uid, outcomes, ranked, places, elsewhere),
                    where=outcomes[uid],
                    images=shown_images.get(uid, ()),
                    more_images=images[uid].total - len(shown_images[uid]) if uid in images else 0,
                )
                for series in study.series
                for uid in (series.series_instance_uid,)
            ),
            selected_images=chosen_images,
            review="" if approved else self._review(len(candidates), images),
            parameter=self.requirement.parameter,
        )

    def _series_outcome(self, world: World, series: Series, settled: bool) -> ConditionOutcome:
        """`where` and the number of instances as one outcome."""
        requirement = self.requirement
        count, most = series.number_of_instances, requirement.max_instances
        enough = requirement.min_instances <= count and (most is None or count <= most)
        counted = ConditionOutcome(
            asked=f"at least {requirement.min_instances} instances" + (f", at most {most}" if most else ""),
            verdict=Verdict.TRUE if enough else Verdict.FALSE,
            seen=(str(count),),
        )
        scope = world.of_series[series.series_instance_uid]
        where = self._where.run(scope, settled or not enough)
        parts = (*where.parts, counted) if where.asked in ("all of", "always") else (where, counted)
        return ConditionOutcome(asked="all of", verdict=all_of(part.verdict for part in parts), parts=parts)

    def _images(self, world: World, fit: Sequence[Series]) -> dict[str, _Images]:
        """Candidates among the images of each series; nothing without a choice of images."""
        if self._choice is None or self._image_where is None:
            return {}
        found = {}
        for series in fit:
            of_series = found[series.series_instance_uid] = _Images()
            for header in world.acquisition.images(series.series_instance_uid):
                scope = Scope(world, series, header)
                where = self._image_where.run(scope, False)
                image = _Image(
                    header.sop_instance_uid,
                    _image_label(header),
                    where,
                    _image_place(header, self._choice, scope),
                )
                of_series.total += 1
                of_series.unknown |= where.verdict is Verdict.UNKNOWN
                if where.verdict is Verdict.TRUE:
                    of_series.candidates.append(image)
                elif len(of_series.others) < _SHOWN_IMAGES:
                    of_series.others.append(image)
            of_series.candidates.sort(key=lambda image: image.place)
        return found

    def _place(self, world: World, series: Series, images: Mapping[str, _Images]) -> _Place:
        """By the preferences, then by the best image, then by number and UID."""
        uid = series.series_instance_uid
        places, told = _ranked(self.requirement.prefer, world.of_series[uid])
        if uid in images:
            best = images[uid].candidates[0].place
            places, told = places + best.places, told + best.told
        series_number = number(text(series.attributes, "SeriesNumber"))
        return _Place(places, _LAST if series_number is None else series_number, uid, told)

    def _chosen_images(self, selected: Sequence[str], images: Mapping[str, _Images]) -> tuple[str, ...]:
        if self._choice is None:
            return ()
        found = (images[uid].candidates for uid in selected if uid in images)
        return tuple(
            image.uid
            for candidates in found
            for image in (candidates if self._choice.take is Take.ALL else candidates[:1])
        )

    def _review(self, candidates: int, images: Mapping[str, _Images]) -> str:
        """Why a person has to look; empty if nobody has to."""
        limit = self.requirement.review_above
        if limit is not None and candidates > limit:
            return f"{candidates} series are candidates for input {self.requirement.name}, more than {limit}"
        limit = self._choice.review_above if self._choice else None
        found = sum(len(one.candidates) for one in images.values())
        if limit is not None and found > limit:
            return f"{found} images are candidates for input {self.requirement.name}, more than {limit}"
        return ""

    def _reason(
        self,
        uid: str,
        outcomes: Mapping[str, ConditionOutcome],
        ranked: Sequence[str],
        places: Mapping[str, _Place],
        elsewhere: Mapping[str, str],
    ) -> str:
        if uid in ranked:
            return _place_reason(
                ranked.index(uid),
                len(ranked),
                self._asked,
                places[uid].told,
                "Series Number",
                taken_all=self.requirement.take is Take.ALL,
            )
        if uid in elsewhere and outcomes[uid].verdict is Verdict.TRUE:
            return f"not selected: it is input {elsewhere[uid]}"
        if outcomes[uid].verdict is Verdict.TRUE:
            return "not selected: none of its images is as asked"
        unknown = outcomes[uid].verdict is Verdict.UNKNOWN
        return "not selected: values are missing" if unknown else "not selected: a condition is not met"

    def _shown_images(self, found: _Images, chosen: Collection[str]) -> tuple[ImageOutcome, ...]:
        """The best candidates, then some that are none."""
        if self._choice is None:
            return ()
        asked = [_preferred(one) for one in self._choice.prefer]
        told = []
        for at, image in enumerate(found.candidates[:_SHOWN_IMAGES]):
            selected = image.uid in chosen
            reason = _place_reason(
                at,
                len(found.candidates),
                asked,
                image.place.told,
                "Instance Number",
                taken_all=self._choice.take is Take.ALL,
                selected=selected,
            )
            told.append(_image_outcome(image, selected, reason))
        for image in found.others[: _SHOWN_IMAGES - len(told)]:
            missing = image.where.verdict is Verdict.UNKNOWN
            why = "values are missing" if missing else "a condition is not met"
            told.append(_image_outcome(image, False, f"not selected: {why}"))
        return tuple(told)


def _image_outcome(image: _Image, selected: bool, reason: str) -> ImageOutcome:
    return ImageOutcome(
        sop_instance_uid=image.uid,
        label=image.label,
        verdict=image.where.verdict,
        selected=selected,
        reason=reason,
        where=image.where,
    )


def _image_label(header: ImageHeader) -> str:
    view = text(header.attributes, "ViewPosition")
    said = f"image {'(no number)' if header.instance_number is None else header.instance_number}"
    return f"{said}, {shortened(view)}" if view else said


def _image_place(header: ImageHeader, choice: ImageChoice, scope: Scope) -> _Place:
    places, told = _ranked(choice.prefer, scope)
    of_image = header.instance_number
    return _Place(places, _LAST if of_image is None else of_image, header.sop_instance_uid, told)


def _ranked(preferences: Sequence[Preference], scope: Scope) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The place by each preference, and the value that gave it."""
    places, told = [], []
    for preference in preferences:
        seen, _ = scope.look(preference.reference)
        places.append(_place(preference, seen))
        told.append(", ".join(shown(seen.values, preference.reference)) or "no value")
    return tuple(places), tuple(told)


def _place(preference: Preference, seen: Seen) -> float:
    """Rank of a value, smaller is better; infinity for none."""
    texts = [plain(value) for value in seen.values]
    if preference.direction is None:
        for index, wanted in enumerate(preference.values):
            if any(like(one, wanted) for one in texts):
                return float(index)
        return _LAST
    at = next((found for one in texts if (found := comparable(seen.vr, one)) is not None), None)
    if at is None:
        return _LAST
    return at if preference.direction is Direction.ASCENDING else -at


def _preferred(preference: Preference) -> str:
    if preference.direction is not None:
        return f"{preference.reference.text} {preference.direction}"
    return f"{preference.reference.text} in order {', '.join(preference.values)}"


def _place_reason(
    at: int,
    number_of_candidates: int,
    asked: Sequence[str],
    told: Sequence[str],
    tie_break: str,
    *,
    taken_all: bool,
    selected: bool | None = None,
) -> str:
    taken = (taken_all or at == 0) if selected is None else selected
    said = "selected" if taken else "not selected"
    if number_of_candidates == 1:
        return f"{said}: the only candidate"
    if taken_all and taken:
        return f"selected: one of {number_of_candidates} candidates, all are taken"
    by = ", ".join(f"{what} ({value})" for what, value in zip(asked, told, strict=True)) or tie_break
    return f"{said}: place {at + 1} of {number_of_candidates} candidates by {by}"
