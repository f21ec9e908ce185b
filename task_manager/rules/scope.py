# SPDX-License-Identifier: Apache-2.0
"""Where conditions look: in an image, a series or a study, in the order, in what is computed of a series.

Nothing fails: what is not there is no value, with a note that says why. What was looked up or decided once in
an evaluation is kept until its end, so that a hundred rules cost little more than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from profiles.dicom_json import text
from profiles.order import Order
from profiles.request import IMAGES_CAME, Trigger
from task_manager.rules.acquisition import Acquisition, ImageHeader
from task_manager.rules.attributes import Seen, data_set_values, order_value, plain
from task_manager.rules.explain import ConditionOutcome, shortened
from task_manager.rules.facts import IMAGE_FACTS, SOURCE_FACTS, TRIGGER_FACTS
from task_manager.rules.model import Learned, Reference, SeriesClassifier
from task_manager.rules.survey import FactValue, facts_of
from task_manager.study.model import Series, Study

_COUNTED = frozenset(
    (
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "NumberOfSeriesRelatedInstances",
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "SOPClassUID",
    )
)


class World:
    """One study with all that an evaluation of rules may look at."""

    def __init__(
        self,
        study: Study,
        order: Order | None,
        acquisition: Acquisition,
        classifiers: Mapping[str, SeriesClassifier],
        triggers: Sequence[Trigger] = (IMAGES_CAME,),
    ) -> None:
        self.study: Final = study
        self.triggers: Final = tuple(triggers)
        self.order: Final = order
        self.acquisition: Final = acquisition
        self.whole: Final = Scope(self, None)
        self.of_series: Final = {one.series_instance_uid: Scope(self, one) for one in study.series}
        self._classifiers = classifiers
        self._facts: dict[str, dict[str, FactValue]] = {}
        self._classes: dict[tuple[str, str], tuple[str, float]] = {}
        self._labels: dict[str, str] = {}

    def label(self, series: Series) -> str:
        """A series in words for people."""
        uid = series.series_instance_uid
        if uid not in self._labels:
            self._labels[uid] = _series_label(series)
        return self._labels[uid]

    def fact(self, reference: Reference, series: Series) -> FactValue:
        """The value of a fact of one series."""
        if reference.learned is not None:
            return self._learned(reference.learned, series)
        if reference.fact in SOURCE_FACTS:
            return self._source(reference.fact, series)
        uid = series.series_instance_uid
        if uid not in self._facts:
            self._facts[uid] = facts_of(series.attributes, self.acquisition.images(uid))
        return self._facts[uid][reference.fact]

    def trigger(self, name: str) -> tuple[str, ...]:
        """The values of a fact of what asked for the study."""
        told = {
            "trigger.kind": [one.kind.value for one in self.triggers],
            "trigger.source": [one.source for one in self.triggers],
            "trigger.requester": [one.requester for one in self.triggers],
            "trigger.app": [one.app for one in self.triggers],
            "trigger.priority": [one.priority.value if one.priority else "" for one in self.triggers],
        }[name]
        return tuple(dict.fromkeys(one for one in told if one))

    def _source(self, name: str, series: Series) -> FactValue:
        sources = self.acquisition.sources(series.series_instance_uid)
        told = {
            "source.door": [source.door for source in sources],
            "source.calling_ae": [source.calling for source in sources],
            "source.called_ae": [source.called for source in sources],
        }[name]
        return FactValue(values=tuple(dict.fromkeys(one for one in told if one)))

    def _learned(self, learned: Learned, series: Series) -> FactValue:
        classifier = self._classifiers.get(learned.model)
        if classifier is None:
            return FactValue(note="the classifier is not at hand")
        key = (learned.model, series.series_instance_uid)
        if key not in self._classes:
            scope = self.of_series[series.series_instance_uid]
            self._classes[key] = classifier.classify(
                lambda reference: tuple(plain(one) for one in scope.look(reference)[0].values)
            )
        label, confidence = self._classes[key]
        if confidence < learned.confidence:
            return FactValue(
                note=f"the classifier is not sure: {label} {confidence:.2f} < {learned.confidence:g}"
            )
        return FactValue(values=(label,), note=f"classifier, {confidence:.2f}")


class Scope:
    """Where values are looked up.

    In an image: its header, then its series'. In a series: its own header, then the study's. In a study: its
    attributes, then those of all its series together, so a condition on a series attribute holds if any
    series satisfies it.

    Attributes
    ----------
    outcomes
        What prepared conditions found here before, by their number.
    """

    __slots__ = ("_found", "image", "outcomes", "series", "world")

    def __init__(self, world: World, series: Series | None, image: ImageHeader | None = None) -> None:
        self.world = world
        self.series = series
        self.image = image
        self.outcomes: dict[int, ConditionOutcome] = {}
        self._found: dict[Reference, tuple[Seen, str]] = {}

    def look(self, reference: Reference) -> tuple[Seen, str]:
        """What is found, and a note on where if that is not plain."""
        found = self._found.get(reference)
        if found is None:
            found = self._found[reference] = self._look(reference)
        return found

    def _look(self, reference: Reference) -> tuple[Seen, str]:
        if reference.order_field:
            seen = order_value(self.world.order, reference.order_field)
            return seen, "there is no order" if self.world.order is None else ""
        if reference.fact in TRIGGER_FACTS:
            return Seen(self.world.trigger(reference.fact), reference.vr), ""
        if reference.fact:
            return self._fact(reference)
        if self.image is not None and self.series is not None:
            seen = data_set_values(self.image.attributes, reference.steps)
            return (
                (seen, "")
                if seen.values
                else self.world.of_series[self.series.series_instance_uid].look(reference)
            )
        counted = self._counted(reference)
        if counted:
            return Seen(counted, reference.vr), ""
        study = self.world.study
        sources = [self.series.attributes] if self.series is not None else []
        for attributes in (*sources, study.attributes):
            seen = data_set_values(attributes, reference.steps)
            if seen.values:
                return seen, ""
        if self.series is not None:
            return Seen(vr=reference.vr), ""
        found = [data_set_values(series.attributes, reference.steps) for series in study.series]
        values = tuple(dict.fromkeys(value for seen in found for value in seen.values))
        vr = next((seen.vr for seen in found if seen.values), reference.vr)
        return Seen(values, vr), "of all series" if values else ""

    def _fact(self, reference: Reference) -> tuple[Seen, str]:
        if self.series is not None:
            found = self.world.fact(reference, self.series)
            return Seen(found.values, reference.vr), found.note
        every = [self.world.fact(reference, series) for series in self.world.study.series]
        values = tuple(dict.fromkeys(value for one in every for value in one.values))
        return Seen(values, reference.vr), "of all series" if values else next(
            (one.note for one in every), ""
        )

    def _counted(self, reference: Reference) -> tuple[str, ...]:
        """Query attributes that are no part of any header (PS3.4 C.3.4)."""
        if len(reference.steps) != 1 or reference.steps[0].keyword not in _COUNTED:
            return ()
        study = self.world.study
        every = study.series if self.series is None else (self.series,)
        match reference.steps[0].keyword:
            case "NumberOfStudyRelatedSeries":
                return (str(len(study.series)),)
            case "NumberOfStudyRelatedInstances":
                return (str(sum(series.number_of_instances for series in study.series)),)
            case "NumberOfSeriesRelatedInstances":
                return tuple(str(series.number_of_instances) for series in every)
            case "ModalitiesInStudy":
                modalities = (text(series.attributes, "Modality") for series in study.series)
                return tuple(dict.fromkeys(modality for modality in modalities if modality))
            case "SOPClassesInStudy":
                return tuple(dict.fromkeys(uid for series in study.series for uid in series.sop_class_uids))
            case "SOPClassUID":
                return tuple(dict.fromkeys(uid for series in every for uid in series.sop_class_uids))
        return ()


def is_costly(reference: Reference) -> bool:
    """Whether the headers of all images are read for it."""
    return reference.fact in IMAGE_FACTS or reference.learned is not None


def _series_label(series: Series) -> str:
    attributes = series.attributes
    parts = [f"series {text(attributes, 'SeriesNumber') or '(no number)'}", text(attributes, "Modality")]
    described = text(attributes, "SeriesDescription")
    parts.append(f"'{shortened(described)}'" if described else "(no description)")
    parts.append(f"{series.number_of_instances} instance{'' if series.number_of_instances == 1 else 's'}")
    return ", ".join(shortened(part) for part in parts if part)
