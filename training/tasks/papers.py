"""Documents with a structure of their own: minutes, wills, match reports, manuals, leases, diaries ...

A paper has a header (facts of one entity, relations.py) and sections of happenings (events.py), with headings, opening and
closing lines of its genre. All questions on the header may leave out what everybody in the document knows.
"""

import dataclasses
import random

from tasks import Document, Hold, events, lexicon, relation_tables_papers, relations, styles, typed
from tasks.frames import upper_first

KINDS = relations.parse(relation_tables_papers.TABLE)
_ALL = {kind.name: kind for kind in (*styles.KINDS, *KINDS)}

# name | header kind ("-" for none) | happenings | style of the sections (p prose, l list, m either) | openings | closings
_TABLE = """
minutes|meeting|action vote said|m|Present: see list.;The agenda was adopted.;Minutes of the meeting|There being no further business, the chair thanked all.;Signed as correct.;Draft, subject to approval
transcript|meeting|said said vote|m|TRANSCRIPT (abridged);The recording begins.|[End of recording];The session was adjourned.
match|match|goal said|p|A cold evening for football.;The fans had waited long for this day.|The return leg is still to come.;Both teams left the pitch tired.
will|will|bequest|m|Being of sound mind, I set down the following.;I revoke all earlier wills.|Signed in my own hand.;May they live in peace.
invoice|invoice|item|l|Thank you for your order.;We charge you as follows.|Goods remain our property until paid for.;Please quote the number with your payment.
cv|applicant|job|l|CURRICULUM VITAE;Personal details|References on request.;I would be glad to introduce myself in person.
programme|event|slot contact|m|We are delighted to invite you.;Programme|Changes are possible.;We look forward to seeing you.
timetable|class|lesson|l|Valid from Monday.;Timetable|Please note changes on the board.;Have a good term.
diary|-|entry put|p|I have resolved to write every day.;Found in a suitcase: the diary of my aunt.|So ended this week.;Now to bed.
travel|trip|entry purchase|p|We had planned this for years.;Notes from the road|Home at last.;We would do it all again.
weather|bulletin|forecast|m|WEATHER BULLETIN;The outlook for the coming days|Drive carefully.;The next report follows tonight.
release|release|fix|l|Release notes;Thanks to all contributors.|Happy upgrading!;Report bugs in the tracker.
changelog|software|fix|l|Changelog;All notable changes are listed here.|For older versions see the archive.;Patches welcome.
obituary|deceased|moved award|p|With great sadness we announce a loss.;A life remembered|The family thanks all for their sympathy.;May the earth be light.
judgment|case|witness reasoned|p|In the name of the people;Summary of the proceedings|So ordered.;The parties may appeal.
accident|incident|witness patient_event|m|INCIDENT REPORT;Strictly confidential|Report closed.;The file goes to the safety officer.
chart|patient|patient_event|l|Nursing record;Patient chart|Shift handed over.;To be continued by the night staff.
discharge|patient|appoint|m|Dear colleague, thank you for taking over.;Discharge summary|With kind regards from the ward.;Please see the enclosed sheets.
letter|letter|moved gave|p|I hope this finds you well.;At last I have time to write.|Write soon.;A thousand greetings to all.
family|letter|reasoned gave put|p|You will not believe what happened.;Much news this time.|Hugs from us all.;More in the next letter.
newsletter|club|donation award said|m|Dear members,;What a year it was!|See you at the next meeting.;The editors
handbook|school|rule contact|m|Welcome!;Please read these pages with care.|Questions? Ask at the office.;This edition replaces all earlier ones.
houserules|flat|rule contact|m|The parties agree as follows.;Annexed: house rules|Signed by both parties.;This lease is made in two copies.
lease|flat|rule|l|TENANCY AGREEMENT;between the parties named below|Oral side agreements do not exist.;Place, date, signatures
manual|machine|step symptom|m|Read this before first use.;Keep these instructions.|Do not open the housing.;Dispose of it properly.
repair|machine|symptom step|m|Troubleshooting;When something goes wrong|If nothing helps, call us.;Only use original parts.
recipe|recipe|ingredient step|m|A family favourite.;Serves a hungry table|Enjoy!;Leftovers freeze well.
insurance|policy|cover|m|Your cover at a glance;These terms apply.|Please check this document.;Errors and omissions excepted.
syslog|server|logline|l|-- log begins --;last lines of the log|-- log ends --;logrotate finished
story|-|put gave reasoned|p|Once, on a rainy day, it happened like this.;This is what I was told.|And that was the end of it.;Nobody ever spoke of it again.
novel|person|reasoned said put|p|Chapter One;It was the year of the great flood.|The rest belongs in the next chapter.;Outside, the dogs began to bark.
guide|museum|exhibit|m|Welcome to our house.;A walk through the rooms|Please do not touch the objects.;The shop is on the ground floor.
bank|account|account|l|Statement of account;All amounts as booked|Please report errors within six weeks.;This document needs no signature.
jobad|vacancy|contact|m|Join us!;We are a small and friendly team.|We welcome people of all backgrounds.;No agencies, please.
nature|species|sighting|m|Field notes;From our observers|The count goes on.;Send us your own sightings.
library|-|loan|l|Overdue items;Reminders of the week|Fines are waived this month.;The library team
results|race|result said|m|Final standings;A day of surprises|All times unofficial.;Protests within one hour.
history|town|timeline moved|p|A short history;Few towns can look back on so much.|Much of this is in the archive.;The rest is legend.
science|study|said timeline|p|In brief;A new paper makes waves.|More work is needed.;The data are public.
clinic|-|appoint|l|Appointments;Practice diary|Please come ten minutes early.;Cancel in good time.
market|-|purchase|m|Receipts and purchases;The fair was busy this year.|Prices as paid.;The stalls closed at dusk.
faq|hotel|rule slot|m|Frequently asked questions;Good to know|Anything else? Ask at reception.;Have a pleasant stay.
team|team|shift action|m|Rota;Who does what|Swap shifts among yourselves.;Pinned to the board.
interview|author|said reasoned|p|We met on a grey morning.;An interview in three parts|The conversation was shortened.;Photographs by the editors.
shop|product|purchase contact|m|Customer reviews and orders;New in our shop|While stocks last.;All prices include tax.
police|vehicle|witness|p|Police report;Notes of the officer on duty|Investigations continue.;Witnesses are asked to come forward.
concert|film|slot said|m|Tonight's programme;About the evening|Phones off, please.;Applause is welcome.
reservations|hotel|booking|l|Reservations;House list|Keys at the desk.;Rooms ready by noon.
itinerary|train|stop|l|Your connection;Stops on the way|Have a good trip.;All times local.
menu|restaurant|menuitem|l|Menu;Today we recommend|Service included.;Ask us about allergies.
phases|project|phase action|m|Project plan;Phases and people|To be reviewed monthly.;Approved by the board.
docket|case|hearing witness|l|Docket;Cause list|By order of the court.;Parties are asked to be on time.
poll|town|survey said|m|What people think;Results of the survey|Percentages do not add up.;Thanks to all who took part.
check|house|inspection offer|m|Survey of the building;Inspection report|Further checks advised.;The owner has been told.
tender|works|offer inspection|m|Offers received;Comparison of offers|The council decides next week.;Late offers are not considered.
contents|book|chapter said|m|Contents;What to expect|With an index.;Second edition.
regimen|patient|dose appoint|l|Your medicines;Medication plan|Bring this sheet along.;Ask your pharmacist.
lexicon|town|glossary|m|Words of the region;A small dictionary|Send us more words.;Spelling varies.
company|company|timeline said|p|To our shareholders;The year in brief|We thank our staff.;The outlook is fair.
"""
_HEADINGS = {
    "action": "Actions;Tasks;To do;Who does what", "vote": "Votes;Decisions;Motions;Resolutions", "said": "Discussion;Voices;Comments;Statements", "bequest": "Bequests;Who gets what;Gifts", "item": "Items;Positions;Goods",
    "shift": "Shifts;Rota;On duty", "goal": "Goals;How the goals were scored;Scorers", "entry": "Days;Day by day;Stops", "forecast": "By region;Regions;Tomorrow", "fix": "Fixes;Bug fixes;Corrections", "purchase": "Purchases;Receipts;Bought",
    "put": "Where things are;Things put away;What happened", "gave": "Presents;Gifts;Who gave what", "lesson": "Lessons;Week;Plan", "slot": "Schedule;Programme;Running order", "job": "Experience;Career;Positions held",
    "patient_event": "Record;Course;Observations", "logline": "Log;Messages;Events", "donation": "Donations;Donors;Thanks to our donors", "award": "Honours;Awards;Prizes", "sighting": "Sightings;Counts;Observations",
    "loan": "On loan;Loans;Due back", "appoint": "Appointments;Follow-up;Calendar", "result": "Results;Standings;Ranking", "ingredient": "Ingredients;You need;Shopping list", "step": "Steps;How to;Procedure", "symptom": "Faults;Problems;What if",
    "exhibit": "Exhibits;Objects;Collection", "account": "Bookings;Transactions;Entries", "witness": "Witnesses;Statements;What people saw", "contact": "Contacts;Who to ask;Directory", "reasoned": "What happened;Background;Why",
    "glossary": "Words;Glossary;Terms", "booking": "Bookings;Guests;Arrivals", "stop": "Stops;Route;Times", "menuitem": "Mains;Dishes;From the kitchen", "phase": "Phases;Plan;Stages", "hearing": "Hearings;Docket;Sessions",
    "survey": "Answers;Results;Figures", "inspection": "Findings;Inspections;State", "offer": "Offers;Bids;Comparison", "chapter": "Chapters;Contents;Structure", "dose": "Medicines;Doses;When to take what",
    "moved": "Moves;Places;Stations of a life", "rule": "Rules;House rules;Not allowed", "cover": "Cover;Risks;What we pay", "timeline": "Milestones;History;Years",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Paper:
    name: str
    header: relations.Kind | None
    happenings: tuple[events.Happening, ...]
    style: str
    openings: tuple[str, ...]
    closings: tuple[str, ...]


def _parse(table: str) -> tuple[Paper, ...]:
    out = []
    for line in table.strip().splitlines():
        name, header, happenings, style, openings, closings = line.split("|")
        out.append(
            Paper(name, _ALL.get(header), tuple(events.HAPPENINGS[h] for h in happenings.split()), style, tuple(openings.split(";")), tuple(closings.split(";")))
        )
    return tuple(out)


PAPERS = _parse(_TABLE)
_HEADER_STYLES = {"p": (styles.prose, styles.prose, styles.letter), "l": (styles.record, styles.clauses, styles.prose), "m": (styles.prose, styles.clauses, styles.record)}


def paper_document(rng: random.Random, hold: int = Hold.TRAIN) -> Document:
    """A paper of a random kind."""
    paper = rng.choice(PAPERS)
    parts: list[list[str]] = []
    asked, said = [], set()
    title = f"{paper.name}_{rng.randint(1, 999)}.txt"
    if paper.header:
        style = rng.choice(_HEADER_STYLES[paper.style])
        pool = [relation for relation in paper.header.seen if style is not styles.record or relation.phrases]
        entity = relations.make_entity(rng, paper.header, 0, hold, rng.sample(pool, rng.randint(min(3, len(pool)), min(8, len(pool)))))
        parts.append(style(rng, [entity], hold))
        asked += relations.questions(rng, [entity], hold)
        said |= relations.labels([entity])
        title = styles.title(rng, paper.header, [entity])
    chosen = paper.happenings if len(paper.happenings) == 1 or rng.random() < 0.4 else rng.sample(paper.happenings, rng.randint(1, len(paper.happenings)))
    numbered = rng.random() < 0.2
    for number, happening in enumerate({happening.name: happening for happening in chosen}.values(), 1):
        lines, questions, labels = events.section(rng, happening, rng.randint(2, 6), hold, {"p": True, "l": False, "m": None}[paper.style])
        if rng.random() < (0.25 if paper.style == "p" else 0.6):
            heading = rng.choice(_HEADINGS[happening.name].split(";"))
            lines.insert(0, f"{number}. {heading}" if numbered else rng.choice((heading, heading.upper(), heading + ":", f"## {heading}")))
        parts.append(lines)
        asked += questions
        said |= labels
    if rng.random() < 0.15:
        rng.shuffle(parts)
    lines = [line for part in parts for line in part]
    if rng.random() < 0.6:
        lines.insert(0, rng.choice(paper.openings))
    for _ in range(rng.choice((0, 0, 1, 2))):
        lines.insert(rng.randint(1, len(lines)), rng.choice(lexicon.FILLERS))
    if rng.random() < 0.5:
        lines.append(rng.choice(paper.closings))
    if rng.random() < 0.3:
        lines.append(rng.choice((f"{typed.place(rng)}, {typed.date(rng)}", f"Page {rng.randint(1, 9)} of {rng.randint(9, 20)}", f"({typed.person(rng)})")))
    if rng.random() < 0.4:
        lines.insert(0, upper_first(title))
    return Document(title, "\n".join(lines), asked, said)
