# SPDX-License-Identifier: Apache-2.0
"""Asks an archive for studies by QIDO-RS and retrieves them by WADO-RS (PS3.18 10.4, 10.6).

Answers are hostile input: bounded in number and size, dropped where a UID is none, streamed to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import httpx

from informatics_gateway.dicomweb.media import DICOM, MULTIPART, parse_media_type
from informatics_gateway.dicomweb.outbound import DicomWebService
from informatics_gateway.dicomweb.stow_parts import BodyReader
from profiles.dicom_json import DicomJson, first, text, values
from profiles.multipart import MultipartError, MultipartParser
from profiles.uids import is_uid
from task_manager.delivery.answers import Meaning, of_http_status
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.fetching.archives import Piece, Receiver, RemoteSeries, RemoteStudy, StudyQuestion
from task_manager.ports import StagedObject

_PAGE = 1000
_MOST_SERIES = 5000
_MOST_PART_BYTES = 16 * 1024**3
_LONGEST_TEXT = 64
_MOST_VALUES = 32
_STUDY_FIELDS = ("00080061", "00081030", "00100021", "00201208")
_AS_KEPT = f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*'
_AS_IT_LIKES = f'{MULTIPART}; type="{DICOM}"'
_NOT_ACCEPTABLE = 406


class WebStudyQuery:
    """The questions of a fetch to one archive.

    Parameters
    ----------
    name
        What the archive is called in the configuration.
    """

    def __init__(self, name: str, service: DicomWebService) -> None:
        self.name = name
        self._service = service

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def find_studies(self, question: StudyQuestion, *, limit: int) -> Sequence[RemoteStudy]:
        """Its studies that may match, at most `limit`.

        Raises
        ------
        DeliveryError
            If it does not answer, or refuses.
        """
        keys = [
            (keyword, value)
            for keyword, value in (
                ("StudyInstanceUID", question.study_instance_uid),
                ("AccessionNumber", question.accession_number),
                ("PatientID", question.patient_id),
            )
            if value
        ]
        found: list[RemoteStudy] = []
        for answer in self._answers("/studies", [*keys, *_included(*_STUDY_FIELDS)], limit):
            uid = _text(answer, "StudyInstanceUID")
            if is_uid(uid):
                found.append(self._study(uid, answer))
        return found[:limit]

    def find_series(self, study_instance_uid: str) -> Sequence[RemoteSeries]:
        """The series of a study without their instances.

        Raises
        ------
        DeliveryError
            If it does not answer, or refuses.
        """
        path = f"/studies/{study_instance_uid}/series"
        return [
            RemoteSeries(series_instance_uid=uid, body_part=_text(answer, "BodyPartExamined"))
            for answer in self._answers(path, _included("00180015"), _MOST_SERIES)
            if is_uid(uid := _text(answer, "SeriesInstanceUID"))
        ]

    def find_instances(self, study_instance_uid: str, *, limit: int) -> Sequence[RemoteSeries]:
        """The series of a study with all their instances; none if it has not got the study.

        Raises
        ------
        DeliveryError
            If it does not answer, refuses, or names more than `limit`.
        """
        path = f"/studies/{study_instance_uid}/instances"
        series: dict[str, dict[str, str]] = {}
        for number, answer in enumerate(self._answers(path, _included("00080016"), limit + 1)):
            if number >= limit:
                raise RetryableDeliveryError("the archive tells more instances than a study can have")
            of, uid, kind = (
                _text(answer, keyword) for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
            )
            if is_uid(of) and is_uid(uid):
                series.setdefault(of, {})[uid] = kind if is_uid(kind) else ""
        return [RemoteSeries(series_instance_uid=uid, instances=found) for uid, found in series.items()]

    def _answers(self, path: str, query: Sequence[tuple[str, str]], limit: int) -> Iterator[DicomJson]:
        """Data sets of one search, page by page, at most `limit`.

        An archive may give fewer at a time than asked for, or not know pages.
        """
        offset = 0
        former: list[DicomJson] = []
        while offset < limit:
            page = min(_PAGE, limit - offset)
            asked = [(key, quote(value, safe="")) for key, value in query]
            asked += [("limit", str(page)), ("offset", str(offset))]
            answer = self._service.ask("GET", path, query=asked, expected=(200, 204, 404))
            found = answer.data_sets() if answer.status == 200 else []
            if not found or found == former:  # no more, or the page before again
                return
            yield from found[: limit - offset]
            offset += len(found)
            former = found

    def _study(self, uid: str, answer: DicomJson) -> RemoteStudy:
        number = first(answer, "NumberOfStudyRelatedInstances")
        modalities = [str(one).strip()[:_LONGEST_TEXT] for one in values(answer, "ModalitiesInStudy")]
        return RemoteStudy(
            archive=self.name,
            study_instance_uid=uid,
            patient_id=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID"),
            accession_number=_text(answer, "AccessionNumber"),
            study_date=_text(answer, "StudyDate"),
            modalities=tuple(one for one in modalities[:_MOST_VALUES] if one),
            description=_text(answer, "StudyDescription"),
            instances=number if isinstance(number, int) and 0 <= number < 10**8 else 0,
        )


class WadoRetrieval:
    """Retrieves by WADO-RS in whatever transfer syntax the archive keeps."""

    def __init__(self, service: DicomWebService) -> None:
        self._service = service
        self._accept = _AS_KEPT

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def retrieve(self, piece: Piece, receiver: Receiver) -> None:
        """Retrieve a piece: a series at a time, or single instances.

        Raises
        ------
        DeliveryError
            If the archive fails or refuses, or what it sends is not what it says.
        """
        base = f"/studies/{piece.study_instance_uid}/series/{piece.series_instance_uid}"
        if piece.is_whole:
            self._retrieve(base, len(piece.instances), receiver)
            return
        for uid in piece.instances:
            self._retrieve(f"{base}/instances/{uid}", 1, receiver)

    def _retrieve(self, path: str, expected: int, receiver: Receiver) -> None:
        status = self._stream(path, expected, receiver)
        if status == _NOT_ACCEPTABLE and self._accept == _AS_KEPT:
            self._accept = _AS_IT_LIKES  # an archive that does not know the asterisk (PS3.18 8.7.3.5.2)
            status = self._stream(path, expected, receiver)
        if of_http_status(status) is Meaning.LATER or status == 404:
            raise RetryableDeliveryError(f"HTTP {status}")
        if status != 200:
            raise FinalDeliveryError(f"HTTP {status}")

    def _stream(self, path: str, expected: int, receiver: Receiver) -> int:
        """The status of an answer, whose body was received if it is 200."""
        headers = {"Accept": self._accept, "Accept-Encoding": "identity", **self._service.credentials()}
        try:
            with self._service.client.stream(
                "GET", f"{self._service.base_url}{path}", headers=headers
            ) as response:
                if response.status_code == 200:
                    _receive(response, expected, receiver)
                return response.status_code
        except httpx.TransportError as error:
            raise RetryableDeliveryError(f"no answer ({type(error).__name__})") from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise FinalDeliveryError("the request cannot be made, or its answer not be read") from error


def _receive(response: httpx.Response, expected: int, receiver: Receiver) -> None:
    media = parse_media_type(response.headers.get("content-type", ""))
    taker = _Taker(receiver)
    try:
        parser = None
        if media.name == MULTIPART:
            # one more than expected is refused, many more are not read
            parser = MultipartParser(
                media.parameter("boundary"), max_parts=expected + 16, max_part_bytes=_MOST_PART_BYTES
            )
        elif media.name != DICOM:
            raise FinalDeliveryError("the answer holds no instances")
        reader = BodyReader(taker, parser, media.name, _MOST_PART_BYTES)
        for chunk in response.iter_raw():
            if receiver.is_ending():
                raise RetryableDeliveryError("we are stopping")
            reader.feed(chunk)
        reader.finish(b"")
    except MultipartError as error:
        raise RetryableDeliveryError(f"the answer cannot be read: {error}") from error
    finally:
        taker.discard()


class _Taker:
    """Parts of an answer into the receiver of a fetch; implements the protocol of the store door's parts."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._staged: StagedObject | None = None

    @property
    def holds_any(self) -> bool:
        """Whether an instance is being received."""
        return self._staged is not None

    def begin(self, headers: dict[str, str]) -> None:
        """A part begins; one of another media type is no instance, and passes by."""
        if parse_media_type(headers.get("content-type", DICOM)).name == DICOM:
            self._staged = self._receiver.stage()

    def append(self, data: bytes) -> None:
        """Some of its bytes."""
        if self._staged is not None:
            self._staged.write(data)

    def end(self) -> None:
        """It is complete."""
        staged, self._staged = self._staged, None
        if staged is not None:
            self._receiver.receive(staged)

    def finish(self) -> None:
        """All parts have come."""
        self.discard()

    def discard(self) -> None:
        """Drop what is not complete."""
        if self._staged is not None:
            self._staged.discard()
            self._staged = None


def _included(*fields: str) -> list[tuple[str, str]]:
    return [("includefield", field) for field in fields]


def _text(answer: DicomJson, keyword: str) -> str:
    return text(answer, keyword).strip()[:_LONGEST_TEXT]
