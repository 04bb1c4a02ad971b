"""Invented documents: facts about people, places, machines, contracts ... with many phrasings of statement and question.

A subject has a name generator and attributes; an attribute has a value generator, statements and questions. "{e}" is the
subject's name, "{v}" the value. The LAST statement and the LAST question of every attribute are held out: training never
shows them, evaluation can ask for exactly them.
"""

import dataclasses
import random
from collections.abc import Callable

from tasks import Document, Question, values
from tasks.values import one_of


@dataclasses.dataclass(frozen=True)
class Attribute:
    name: str
    value: Callable[[random.Random], str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Subject:
    kind: str
    entity: Callable[[random.Random], str]
    titles: tuple[str, ...]
    pronouns: tuple[str, ...]
    attributes: tuple[Attribute, ...]


def _a(name, value, statements, questions) -> Attribute:
    return Attribute(name, value, tuple(statements.split("|")), tuple(questions.split("|")))


def _thing_entity(rng):
    return f"the {rng.choice(values.COLOURS)} {rng.choice(values.THINGS)}"


def _contract(rng):
    return f"contract {values.code(rng)}"


def _project(rng):
    return f"project {values.word(rng).capitalize()}"


def _machine(rng):
    return f"the {rng.choice(('pump', 'printer', 'router', 'turbine', 'press', 'boiler', 'crane', 'lift', 'tractor', 'scanner', 'server', 'mill'))} {values.code(rng)}"


def _recipe(rng):
    return f"{values.word(rng).capitalize()} {rng.choice(('soup', 'cake', 'stew', 'bread', 'pie', 'salad', 'pudding'))}"


def _event(rng):
    return f"the {values.word(rng).capitalize()} {rng.choice(('festival', 'conference', 'fair', 'concert', 'workshop', 'regatta', 'exhibition'))}"


def _pet(rng):
    return f"{values.word(rng, 2).capitalize()} the {rng.choice(values.ANIMALS)}"


SUBJECTS = (
    Subject("person", values.person, ("{e}", "profile of {e}", "staff/{e}.txt", "biography.txt", "people.txt", "notes"), ("She", "He"), (
        _a("job", one_of(values.JOBS), "{e} works as a {v}.|{e} is a {v} by profession.|By trade {e} is a {v}.|For years {e} has been a {v}.|{e} earns a living as a {v}.|{e} makes money working as a {v}.",
           "What is {e}'s job?|What does {e} work as?|What is the profession of {e}?|What does {e} do for a living?|What is the occupation of {e}?|Which trade does {e} follow?"),
        _a("home", values.place, "{e} lives in {v}.|{e} has a house in {v}.|The home of {e} is in {v}.|{e} moved to {v} long ago.|{e} settled in {v}.|{e} resides in {v}.",
           "Where does {e} live?|In which town does {e} live?|What is the home town of {e}?|Where is the home of {e}?|Which place does {e} live in?|Where has {e} settled?"),
        _a("birth", values.date, "{e} was born on {v}.|{e}'s date of birth is {v}.|Born on {v}, {e} grew up by the sea.|{e} came into the world on {v}.|The birthday of {e} is {v}.",
           "When was {e} born?|What is {e}'s date of birth?|On which date was {e} born?|What is the birthday of {e}?|When did {e} come into the world?"),
        _a("employer", values.company, "{e} is employed by {v}.|{e} works for {v}.|{e} joined {v} last spring.|The employer of {e} is {v}.|{e} is on the payroll of {v}.",
           "Who employs {e}?|Which company does {e} work for?|What is the name of {e}'s employer?|Where is {e} employed?|At which firm does {e} work?"),
        _a("spouse", values.person, "{e} is married to {v}.|{e} and {v} have been married for years.|{e}'s spouse is {v}.|{e} married {v} in a small chapel.|The partner of {e} is {v}.",
           "Who is {e} married to?|Who is {e}'s spouse?|What is the name of the person {e} married?|Who is the partner of {e}?|To whom is {e} wed?"),
        _a("phone", values.phone, "{e} can be reached at {v}.|The telephone number of {e} is {v}.|Call {e} on {v}.|{e}'s phone number is {v}.|To speak to {e}, dial {v}.",
           "What is {e}'s phone number?|What is the telephone number of {e}?|How can {e} be reached?|Which number do I call for {e}?|Which number must I dial to speak to {e}?"),
        _a("email", values.email, "{e}'s email address is {v}.|Write to {e} at {v}.|Mail for {e} goes to {v}.|{e} reads mail at {v}.",
           "What is {e}'s email address?|What is the email address of {e}?|Where do I send mail for {e}?|At which address does {e} read mail?"),
        _a("study", one_of(values.SUBJECTS), "{e} studied {v}.|{e} has a degree in {v}.|At university {e} read {v}.|{e} graduated in {v}.|{e} spent four years studying {v}.",
           "What did {e} study?|Which subject did {e} study?|What is {e}'s degree in?|In which field did {e} graduate?|What was {e}'s subject at university?"),
        _a("hobby", one_of(("fencing", "chess", "bird watching", "pottery", "rowing", "astronomy", "gardening", "archery", "baking", "hiking", "origami", "sailing")),
           "{e}'s hobby is {v}.|In spare time {e} enjoys {v}.|{e} is fond of {v}.|On weekends {e} goes in for {v}.|{e} spends free evenings on {v}.",
           "What is {e}'s hobby?|What does {e} enjoy in spare time?|What is {e} fond of?|What does {e} do on weekends?|How does {e} spend free evenings?"),
        _a("language", one_of(values.LANGUAGES), "{e} speaks {v}.|{e} is fluent in {v}.|{e}'s mother tongue is {v}.|At home {e} talks {v}.", "Which language does {e} speak?|What language is {e} fluent in?|What is {e}'s mother tongue?|What does {e} talk at home?"),
        _a("office", lambda rng: f"room {rng.randint(1, 480)}", "{e} sits in {v}.|{e}'s office is {v}.|You will find {e} in {v}.|The desk of {e} is in {v}.", "Where is {e}'s office?|In which room does {e} sit?|Which room is {e} in?|Where is the desk of {e}?"),
        _a("allergy", one_of(values.FOODS), "{e} is allergic to {v}.|{e} cannot eat {v}.|{e} must not be served {v}.|{e} gets a rash from {v}.", "What is {e} allergic to?|What can {e} not eat?|Which food must {e} not be served?|What gives {e} a rash?"),
    )),
    Subject("lease", lambda rng: f"the flat at {values.address(rng)}", ("lease.txt", "rental agreement", "Lease {n}", "contract_{n}.pdf", "tenancy agreement"), ("The flat", "The property"), (
        _a("tenant", values.person, "The tenant of {e} is {v}.|{e} is let to {v}.|{e} is rented by {v} (the tenant).|The tenant, {v}, takes {e} as it stands.|The person renting {e} is {v}.",
           "Who is the tenant?|Who is the tenant of {e}?|To whom is {e} let?|Who rents {e}?|Who is renting {e}?"),
        _a("landlord", values.person, "The landlord of {e} is {v}.|{e} belongs to {v}.|The landlord, {v}, lets {e}.|The owner of {e} is {v}.", "Who is the landlord?|Who is the landlord of {e}?|Who owns {e}?|To whom does {e} belong?"),
        _a("rent", values.amount, "The monthly rent for {e} is {v}.|The rent of {e} amounts to {v} a month.|For {e} the tenant pays {v} each month.|{e} costs {v} per month.",
           "What is the monthly rent?|How much is the rent of {e}?|What is the monthly rent for {e}?|How much does {e} cost per month?|What must be paid for {e} every month?"),
        _a("deposit", values.amount, "A deposit of {v} is due for {e}.|The deposit for {e} is {v}.|As security for {e}, {v} must be deposited.|Before moving into {e} the tenant leaves {v} as a deposit.", "How much is the deposit?|What deposit is due for {e}?|What is the deposit for {e}?|What sum is left as security for {e}?"),
        _a("start", values.date, "The lease of {e} begins on {v}.|The tenancy of {e} starts on {v}.|{e} is let from {v}.|From {v} on the tenant may use {e}.", "When does the lease begin?|When does the lease of {e} begin?|When does the tenancy of {e} start?|From which date is {e} let?"),
        _a("notice", values.duration, "The notice period for {e} is {v}.|Either party may end the lease of {e} with notice of {v}.|The lease of {e} can be ended with {v} notice.|Whoever wants to end the lease of {e} must say so {v} ahead.", "What is the notice period?|What is the notice period for {e}?|With how much notice can the lease of {e} be ended?|How long ahead must notice be given for {e}?"),
        _a("pets", one_of(("not allowed", "allowed with written consent", "limited to one cat", "permitted without limit")), "Pets in {e} are {v}.|In {e}, pets are {v}.|Keeping pets in {e} is {v}.|As for animals, in {e} they are {v}.", "Are pets allowed in {e}?|What is said about pets in {e}?|What is the rule on pets in {e}?|May I keep animals in {e}?"),
    )),
    Subject("contract", _contract, ("agreement.txt", "{e}", "contracts/{n}.txt", "supply agreement"), ("The contract", "This contract"), (
        _a("supplier", values.company, "Under {e} the supplier is {v}.|{v} is the supplier under {e}.|{e} was signed by {v} as supplier.|Goods under {e} come from {v}.", "Who is the supplier under {e}?|Which company is the supplier in {e}?|Who signed {e} as supplier?|Where do the goods under {e} come from?"),
        _a("total", values.amount, "The total value of {e} is {v}.|{e} is worth {v}.|{e} has a volume of {v}.|Altogether {v} will be paid under {e}.", "What is the total value of {e}?|How much is {e} worth?|What is the volume of {e}?|What sum will be paid under {e}?"),
        _a("signed", values.date, "{e} was signed on {v}.|Both parties signed {e} on {v}.|{e} is dated {v}.|The signatures under {e} were given on {v}.", "When was {e} signed?|On what date did the parties sign {e}?|What date does {e} bear?|When were the signatures under {e} given?"),
        _a("expiry", values.date, "{e} expires on {v}.|{e} ends on {v}.|{e} runs until {v}.|The last day of {e} is {v}.", "When does {e} expire?|When does {e} end?|Until when does {e} run?|What is the last day of {e}?"),
        _a("penalty", values.amount, "Late delivery under {e} costs a penalty of {v}.|{e} sets a penalty of {v} per week of delay.|The penalty in {e} is {v}.|Whoever is late under {e} owes {v}.", "What is the penalty under {e}?|What penalty does {e} set?|How much is the penalty in {e}?|What does someone who is late under {e} owe?"),
        _a("contact", values.person, "Questions about {e} go to {v}.|The contact for {e} is {v}.|{v} is responsible for {e}.|{e} is looked after by {v}.", "Who is the contact for {e}?|Who is responsible for {e}?|To whom do questions about {e} go?|Who looks after {e}?"),
    )),
    Subject("project", _project, ("status report", "{e}", "report_{n}.txt", "projects.txt", "quarterly report"), ("The project", "It"), (
        _a("lead", values.person, "{e} is led by {v}.|{v} leads {e}.|The head of {e} is {v}.|The manager of {e} is {v}.|At the top of {e} stands {v}.", "Who leads {e}?|Who is the head of {e}?|Who is the manager of {e}?|Who is in charge of {e}?|Who runs {e}?"),
        _a("budget", values.amount, "The budget of {e} is {v}.|{e} has a budget of {v}.|{v} has been set aside for {e}.|{e} may spend {v}.", "What is the budget of {e}?|How much money does {e} have?|How much has been set aside for {e}?|How much may {e} spend?"),
        _a("deadline", values.date, "{e} must be finished by {v}.|The deadline of {e} is {v}.|{e} is due on {v}.|{e} has to be complete before {v}.", "What is the deadline of {e}?|By when must {e} be finished?|When is {e} due?|When does {e} have to be complete?"),
        _a("delay", one_of(values.CAUSES), "{e} was delayed by {v}.|The delay of {e} was caused by {v}.|Because of {v}, {e} is behind schedule.|{e} fell behind after {v}.", "What delayed {e}?|What caused the delay of {e}?|Why is {e} behind schedule?|Why did {e} fall behind?"),
        _a("place", values.place, "{e} is carried out in {v}.|The site of {e} is {v}.|{e} takes place in {v}.|Work on {e} happens in {v}.", "Where is {e} carried out?|What is the site of {e}?|Where does {e} take place?|Where does work on {e} happen?"),
        _a("staff", lambda rng: f"{rng.randint(2, 300)} people", "{v} work on {e}.|{e} employs {v}.|The team of {e} has {v}.|{e} keeps {v} busy.", "How many people work on {e}?|How many people does {e} employ?|How big is the team of {e}?|How many people does {e} keep busy?"),
        _a("goal", one_of(("a cheaper water filter", "a map of the old harbour", "a quieter engine", "a new timetable", "a digital archive", "a safer crossing", "a vaccine for sheep", "a shared calendar")), "The goal of {e} is {v}.|{e} aims at {v}.|{e} is to deliver {v}.|What {e} wants is {v}.", "What is the goal of {e}?|What does {e} aim at?|What is {e} to deliver?|What does {e} want?"),
    )),
    Subject("machine", _machine, ("manual", "maintenance log", "inventory.txt", "machines.txt", "service record {n}"), ("The machine", "It"), (
        _a("maker", values.company, "{e} was made by {v}.|{e} was built by {v}.|The manufacturer of {e} is {v}.|{e} comes from the factory of {v}.", "Who made {e}?|Who built {e}?|Who is the manufacturer of {e}?|From whose factory does {e} come?"),
        _a("weight", values.measure, "{e} weighs {v}.|The weight of {e} is {v}.|{e} has a mass of {v}.|{e} puts {v} on the scales.", "How much does {e} weigh?|What is the weight of {e}?|How heavy is {e}?|What does {e} put on the scales?"),
        _a("fault", one_of(values.CAUSES), "{e} failed because of {v}.|{e} stopped after {v}.|The failure of {e} was due to {v}.|It was {v} that brought {e} to a halt.", "Why did {e} fail?|What caused the failure of {e}?|What was the reason {e} stopped?|What brought {e} to a halt?"),
        _a("location", lambda rng: rng.choice(("hall ", "building ", "room ", "bay ")) + str(rng.randint(1, 90)), "{e} stands in {v}.|{e} is installed in {v}.|You find {e} in {v}.|The location of {e} is {v}.|{e} has its place in {v}.", "Where is {e} installed?|Where does {e} stand?|Where do you find {e}?|What is the location of {e}?|Where does {e} have its place?"),
        _a("service", values.date, "{e} was last serviced on {v}.|The last service of {e} was on {v}.|A technician looked at {e} on {v}.|{e} last saw a mechanic on {v}.", "When was {e} last serviced?|What was the date of the last service of {e}?|When did a technician look at {e}?|When did {e} last see a mechanic?"),
        _a("power", lambda rng: f"{rng.randint(20, 9000)} watts", "{e} draws {v}.|The power consumption of {e} is {v}.|{e} needs {v} of power.|In use {e} takes {v}.", "How much power does {e} draw?|What is the power consumption of {e}?|How much power does {e} need?|What does {e} take in use?"),
        _a("password", values.code, "The password of {e} is {v}.|To unlock {e}, enter {v}.|{e} is unlocked with {v}.|{e} opens with the word {v}.", "What is the password of {e}?|How do I unlock {e}?|With what is {e} unlocked?|What opens {e}?"),
        _a("cost", values.amount, "{e} cost {v}.|The price of {e} was {v}.|{v} was paid for {e}.|{e} was bought for {v}.", "How much did {e} cost?|What was the price of {e}?|How much was paid for {e}?|For how much was {e} bought?"),
    )),
    Subject("thing", _thing_entity, ("lost and found", "inventory", "diary", "letter.txt", "story.txt"), ("It",), (
        _a("where", one_of(values.PLACES_FOR_THINGS), "{e} is kept {v}.|{e} was found {v}.|Somebody left {e} {v}.|{e} lies {v}.|{e} had been hidden {v}.|Look for {e} {v}.", "Where is {e}?|Where is {e} kept?|Where was {e} found?|Where did somebody leave {e}?|Where does {e} lie?|Where had {e} been hidden?"),
        _a("owner", values.person, "{e} belongs to {v}.|The owner of {e} is {v}.|{v} owns {e}.|{e} is the property of {v}.", "Who owns {e}?|To whom does {e} belong?|Who is the owner of {e}?|Whose property is {e}?"),
        _a("material", one_of(values.MATERIALS), "{e} is made of {v}.|{e} was crafted from {v}.|The material of {e} is {v}.|{e} consists of {v}.", "What is {e} made of?|What material is {e} made of?|What is the material of {e}?|What does {e} consist of?"),
        _a("value", values.amount, "{e} is worth {v}.|{e} was valued at {v}.|An expert put the value of {e} at {v}.|{e} would fetch {v}.", "How much is {e} worth?|At what was {e} valued?|What is the value of {e}?|What would {e} fetch?"),
        _a("code", values.code, "The secret code of {e} is {v}.|The number on {e} is {v}.|{e} bears the number {v}.|Engraved on {e} is {v}.", "What is the secret code of {e}?|What is the number on {e}?|Which number does {e} bear?|What is engraved on {e}?"),
    )),
    Subject("town", values.place, ("{e}", "guide", "places.txt", "travel notes", "gazetteer"), ("The town", "It"), (
        _a("population", lambda rng: f"{rng.randint(2, 900)},{rng.randint(0, 999):03}", "{e} has {v} inhabitants.|The population of {e} is {v}.|{v} people live in {e}.|{e} counts {v} residents.", "How many people live in {e}?|What is the population of {e}?|How many inhabitants does {e} have?|How many residents does {e} count?"),
        _a("mayor", values.person, "The mayor of {e} is {v}.|{v} is the mayor of {e}.|{e} elected {v} as mayor.|At the head of {e}'s council sits {v}.", "Who is the mayor of {e}?|What is the name of the mayor of {e}?|Whom did {e} elect as mayor?|Who sits at the head of {e}'s council?"),
        _a("river", lambda rng: "the " + values.word(rng).capitalize(), "{e} lies on {v}.|{e} stands on the banks of {v}.|The river through {e} is {v}.|Through {e} flows {v}.", "On which river does {e} lie?|What river runs through {e}?|On the banks of which river does {e} stand?|What flows through {e}?"),
        _a("founded", lambda rng: str(rng.randint(900, 1990)), "{e} was founded in {v}.|The founding year of {e} is {v}.|{e} goes back to {v}.|Since {v} there has been a town called {e}.", "When was {e} founded?|In which year was {e} founded?|What is the founding year of {e}?|Since when has there been a town called {e}?"),
        _a("product", one_of(values.FOODS), "{e} is known for its {v}.|{e} exports {v}.|People come to {e} for the {v}.|The pride of {e} is its {v}.", "What is {e} known for?|What does {e} export?|What do people come to {e} for?|What is the pride of {e}?"),
        _a("distance", lambda rng: f"{rng.randint(3, 900)} kilometres", "{e} is {v} from the coast.|From the coast to {e} it is {v}.|The distance from {e} to the coast is {v}.|Between {e} and the coast lie {v}.", "How far is {e} from the coast?|What is the distance from {e} to the coast?|How far is it from the coast to {e}?|How many kilometres lie between {e} and the coast?"),
    )),
    Subject("company", values.company, ("{e}", "annual report", "companies.txt", "press release"), ("The company", "It"), (
        _a("chief", values.person, "The chief executive of {e} is {v}.|{e} is run by {v}.|{v} heads {e}.|At the helm of {e} is {v}.", "Who is the chief executive of {e}?|Who runs {e}?|Who heads {e}?|Who is at the helm of {e}?"),
        _a("seat", values.place, "{e} has its headquarters in {v}.|{e} is based in {v}.|The head office of {e} is in {v}.|{e} operates out of {v}.", "Where is {e} based?|Where are the headquarters of {e}?|Where is the head office of {e}?|Out of which town does {e} operate?"),
        _a("revenue", lambda rng: f"{rng.randint(2, 900)} million {rng.choice(('euros', 'dollars'))}", "{e} had a revenue of {v}.|The revenue of {e} was {v}.|{e} took in {v} last year.|Sales of {e} came to {v}.", "What was the revenue of {e}?|How much revenue did {e} have?|How much did {e} take in?|What did the sales of {e} come to?"),
        _a("makes", one_of(values.THINGS), "{e} makes the {v} that everybody knows.|The best-known product of {e} is the {v}.|{e} became famous with a {v}.|{e} owes its name to the {v}.", "What is the best-known product of {e}?|What did {e} become famous with?|What does {e} make?|To what does {e} owe its name?"),
        _a("founded", lambda rng: str(rng.randint(1820, 2024)), "{e} was founded in {v}.|{e} has existed since {v}.|The year {e} was started is {v}.|{e} opened its doors in {v}.", "When was {e} founded?|Since when has {e} existed?|In which year was {e} started?|When did {e} open its doors?"),
    )),
    Subject("event", _event, ("programme", "events.txt", "invitation", "newsletter"), ("The event", "It"), (
        _a("date", values.date, "{e} takes place on {v}.|{e} is held on {v}.|The date of {e} is {v}.|{e} opens on {v}.|Mark {v} for {e}.", "When does {e} take place?|When is {e} held?|What is the date of {e}?|When does {e} open?|Which day should be marked for {e}?"),
        _a("place", values.place, "{e} is held in {v}.|{e} will be in {v}.|The venue of {e} is in {v}.|For {e} everybody travels to {v}.", "Where is {e} held?|Where will {e} be?|What is the venue of {e}?|Where does everybody travel for {e}?"),
        _a("price", values.amount, "A ticket for {e} costs {v}.|Entry to {e} is {v}.|Visitors of {e} pay {v}.|To get into {e} you need {v}.", "What does a ticket for {e} cost?|How much is entry to {e}?|What do visitors of {e} pay?|What do you need to get into {e}?"),
        _a("host", values.person, "{e} is organised by {v}.|The host of {e} is {v}.|{v} organises {e}.|Behind {e} stands {v}.", "Who organises {e}?|Who is the host of {e}?|By whom is {e} organised?|Who stands behind {e}?"),
        _a("time", values.clock, "{e} starts at {v}.|The doors of {e} open at {v}.|{e} begins at {v} sharp.|Be at {e} by {v}.", "At what time does {e} start?|When do the doors of {e} open?|At what time does {e} begin?|By what time should one be at {e}?"),
    )),
    Subject("recipe", _recipe, ("recipe", "cookbook", "{e}", "kitchen notes"), ("The dish", "It"), (
        _a("time", lambda rng: f"{rng.randint(5, 180)} minutes", "{e} takes {v}.|Cook {e} for {v}.|{e} needs {v} in the oven.|{e} is done after {v}.", "How long does {e} take?|How long must {e} be cooked?|How long does {e} need in the oven?|After how long is {e} done?"),
        _a("heat", lambda rng: f"{rng.randint(80, 260)} degrees", "Bake {e} at {v}.|The oven temperature for {e} is {v}.|{e} is baked at {v}.|Set the oven to {v} for {e}.", "At what temperature is {e} baked?|What is the oven temperature for {e}?|How hot must the oven be for {e}?|To what must the oven be set for {e}?"),
        _a("serves", lambda rng: f"{rng.randint(2, 20)} people", "{e} serves {v}.|{e} is enough for {v}.|The amount given for {e} feeds {v}.|With {e} you can feed {v}.", "How many people does {e} serve?|For how many people is {e} enough?|How many does {e} feed?|How many people can you feed with {e}?"),
        _a("main", one_of(values.FOODS), "The main ingredient of {e} is {v}.|{e} is made with {v}.|{e} is mostly {v}.|You cannot make {e} without {v}.", "What is the main ingredient of {e}?|What is {e} made with?|What is {e} mostly made of?|Without what can you not make {e}?"),
    )),
    Subject("pet", _pet, ("shelter notes", "animals.txt", "vet records"), ("The animal",), (
        _a("age", lambda rng: f"{rng.randint(2, 40)} years old", "{e} is {v}.|{e} is already {v}.|At the last check {e} was {v}.|By now {e} must be {v}.", "How old is {e}?|What is the age of {e}?|How old was {e} at the last check?|How old must {e} be by now?"),
        _a("eats", one_of(values.FOODS), "{e} eats {v}.|The favourite food of {e} is {v}.|{e} is fed with {v}.|{e} will do anything for {v}.", "What does {e} eat?|What is the favourite food of {e}?|With what is {e} fed?|For what will {e} do anything?"),
        _a("keeper", values.person, "{e} is cared for by {v}.|The keeper of {e} is {v}.|{v} looks after {e}.|{e} trusts only {v}.", "Who cares for {e}?|Who is the keeper of {e}?|Who looks after {e}?|Whom does {e} trust?"),
    )),
    Subject("journey", values.vehicle, ("timetable", "departures", "itinerary", "logbook"), ("It",), (
        _a("departs", values.clock, "{e} departs at {v}.|{e} leaves at {v}.|The departure time of {e} is {v}.|At {v} {e} sets off.", "When does {e} depart?|At what time does {e} leave?|What is the departure time of {e}?|When does {e} set off?"),
        _a("to", values.place, "{e} goes to {v}.|The destination of {e} is {v}.|{e} is bound for {v}.|{e} will end in {v}.", "Where does {e} go?|What is the destination of {e}?|Where is {e} bound for?|Where will {e} end?"),
        _a("from", values.place, "{e} comes from {v}.|{e} starts in {v}.|{e} set out from {v}.|The first stop of {e} is {v}.", "Where does {e} come from?|Where does {e} start?|Where did {e} set out from?|What is the first stop of {e}?"),
        _a("gate", lambda rng: rng.choice(("gate ", "platform ", "pier ")) + str(rng.randint(1, 60)), "{e} leaves from {v}.|Passengers of {e} go to {v}.|{e} waits at {v}.|Board {e} at {v}.", "From where does {e} leave?|Where do passengers of {e} go?|Where does {e} wait?|Where do I board {e}?"),
        _a("captain", values.person, "The captain of {e} is {v}.|{e} is steered by {v}.|{v} commands {e}.|In charge on {e} is {v}.", "Who is the captain of {e}?|Who steers {e}?|Who commands {e}?|Who is in charge on {e}?"),
    )),
)

MINUTES_TITLES = ("minutes.txt", "Minutes of the meeting", "meeting notes", "board meeting", "minutes_{n}.txt", "committee")
CONFIG_TITLES = ("config.ini", "settings.conf", "server.conf", "{w}.conf", "{w}.toml", "/etc/{w}.conf")
FILLERS = (
    "Nobody had expected anything else.|The weather was fine that day.|More will be said below.|This was agreed some time ago.|All of this is on record.|"
    "The rest needs no comment.|There were no objections.|Some details are still open.|A copy was sent to everyone.|It has been so for a long while.|"
    "The neighbours talked about it for weeks.|Further questions can wait.|That is how the matter stands.|Nothing else was noted.|The file was closed."
).split("|")
UNKNOWN_QUESTIONS = (
    "What is the shoe size of {e}?", "Who painted the portrait of {e}?", "What did {e} have for breakfast?", "What is the blood group of {e}?", "How tall is {e}?",
    "What is the favourite song of {e}?", "Who is the doctor of {e}?", "What is the nickname of {e}?", "Which prize was given to {e}?", "What is the star sign of {e}?",
)  # fmt: skip


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _pick(rng: random.Random, choices: tuple[str, ...], held_out: bool) -> str:
    return choices[-1] if held_out else rng.choice(choices[:-1])


def facts(rng: random.Random, subject: Subject, count: int, held_out: bool, pronoun: bool = False):
    """Returns (entity, sentences, questions) of one entity with `count` of its attributes, and some that it lacks."""
    entity = subject.entity(rng)
    attributes = list(subject.attributes)
    rng.shuffle(attributes)
    sentences, questions = [], []
    for index, attribute in enumerate(attributes[:count]):
        value = attribute.value(rng)
        name = entity
        if pronoun and index and rng.random() < 0.35 and "'s" not in attribute.statements[0]:
            name = subject.pronouns[0]
        statement = _pick(rng, attribute.statements, held_out)
        if name != entity and ("{e}'s" in statement or not statement.startswith("{e}")):
            name = entity
        sentences.append(_capital(statement.replace("{e}", name).replace("{v}", value)))
        question = _pick(rng, attribute.questions, held_out)
        needs = (f"entity:{entity}",) if "{e}" in question else (f"flat.{attribute.name}",)
        questions.append(Question("fact_" + subject.kind, _capital(question.replace("{e}", entity)), value, needs))
    for attribute in attributes[count : count + 1]:
        question = rng.choice([q for q in attribute.questions if "{e}" in q])
        questions.append(Question("none_attribute", _capital(question.replace("{e}", entity)), None))
    stranger = subject.entity(rng)
    question = rng.choice([q for q in rng.choice(attributes[:count]).questions if "{e}" in q])
    if stranger != entity:
        questions.append(Question("none_entity", _capital(question.replace("{e}", stranger)), None, (f"entity:{stranger}",)))
    if rng.random() < 0.2:
        questions.append(Question("none_attribute", rng.choice(UNKNOWN_QUESTIONS).replace("{e}", entity), None))
    return entity, sentences, questions


def _title(rng: random.Random, choices: tuple[str, ...], entity: str) -> str:
    title = rng.choice(choices)
    return title.replace("{e}", entity).replace("{n}", str(rng.randint(1, 999))).replace("{w}", values.word(rng))


def fact_document(rng: random.Random, held_out: bool = False) -> Document:
    """A document about one to four entities of a kind."""
    subject = rng.choice(SUBJECTS)
    entities = 1 if subject.kind == "lease" else rng.choice((1, 1, 2, 3, 4))
    paragraphs, questions, title, labels = [], [], "", set()
    for _ in range(entities):
        count = rng.randint(2, len(subject.attributes) if entities == 1 else min(4, len(subject.attributes)))
        entity, sentences, asked = facts(rng, subject, count, held_out, pronoun=True)
        title = title or _title(rng, subject.titles, entity)
        labels.add(f"entity:{entity}")
        for _ in range(rng.choice((0, 0, 1, 2))):
            sentences.insert(rng.randint(0, len(sentences)), rng.choice(FILLERS))
        cut = rng.randint(1, len(sentences))
        paragraphs += [" ".join(part) for part in (sentences[:cut], sentences[cut:]) if part]
        questions += [q for q in asked if entities == 1 or "{e}" not in q.text]
    if rng.random() < 0.4:
        paragraphs.insert(0, _capital(title))
    if subject.kind == "lease":  # its questions need not name the flat
        labels |= {f"flat.{attribute.name}" for attribute in subject.attributes}
    return Document(title, "\n".join(paragraphs), questions, labels)


def minutes_document(rng: random.Random, held_out: bool = False) -> Document:
    """Minutes: date, chair, place, who will do what by when, next meeting."""
    chair, clerk, place, date, following = values.person(rng), values.person(rng), values.place(rng), values.date(rng), values.date(rng)
    body = [
        f"Date: {date}", f"Chair: {chair}",
        rng.choice((f"Minutes taken by {clerk}.", f"Clerk: {clerk}", f"{clerk} kept the minutes.")),
        rng.choice((f"The meeting was held in {place}.", f"Place: {place}")),
    ]  # fmt: skip
    questions = [
        Question("fact_minutes", rng.choice(("When was the meeting?", "What is the date of the meeting?", "On which date was the meeting held?")), date, ("minutes",)),
        Question("fact_minutes", rng.choice(("Who chaired the meeting?", "Who was in the chair?", "Who is the chair?")), chair, ("minutes",)),
        Question("fact_minutes", rng.choice(("Who took the minutes?", "Who kept the minutes?", "Who was the clerk?")), clerk, ("minutes",)),
        Question("fact_minutes", rng.choice(("Where was the meeting held?", "Where did the meeting take place?")), place, ("minutes",)),
    ]
    rng.shuffle(body)
    for task in rng.sample(values.TASKS, rng.randint(2, 6)):
        who, when = values.person(rng), values.date(rng)
        body.append(
            rng.choice((f"{who} will {task} by {when}.", f"It was decided that {who} should {task} before {when}.", f"Action: {who} to {task}, due {when}.", f"{who} agreed to {task} no later than {when}."))
        )
        questions.append(Question("fact_minutes", rng.choice((f"Who will {task}?", f"Who agreed to {task}?", f"Who is to {task}?", f"Who has the task to {task}?")), who))
        questions.append(Question("fact_minutes", rng.choice((f"What will {who} do?", f"What is {who} to do?", f"What did {who} agree to do?")), task))
        questions.append(Question("fact_minutes", rng.choice((f"By when will {who} {task}?", f"When is the task of {who} due?", f"What is the due date for {who}?")), when))
    other = rng.choice([task for task in values.TASKS if not any(task in line for line in body)])
    questions.append(Question("none_attribute", f"Who will {other}?", None))
    if rng.random() < 0.7:
        body.append(rng.choice((f"Next meeting: {following}", f"The next meeting is on {following}.")))
        questions.append(Question("fact_minutes", rng.choice(("When is the next meeting?", "What is the date of the next meeting?")), following, ("minutes",)))
    return Document(_title(rng, MINUTES_TITLES, ""), rng.choice(("\n", " ")).join(body), questions, {"minutes"})


def config_document(rng: random.Random, held_out: bool = False) -> Document:
    """Keys and values; asked in both directions."""
    lines, questions = [], []
    separator = rng.choice((" = ", "=", ": ", " "))
    title = _title(rng, CONFIG_TITLES, "")
    keys = list(dict.fromkeys(values.identifier(rng) for _ in range(rng.randint(4, 14))))
    for key in keys:
        value = rng.choice((values.number, values.word, values.code, values.email, lambda r: "/" + values.word(r) + "/" + values.word(r), one_of(("true", "false", "auto", "yes", "no"))))(rng)
        if rng.random() < 0.3:
            lines.append(f"# {rng.choice(('sets', 'limit of', 'see also', 'used by'))} {values.word(rng)}")
        lines.append(f"{key}{separator}{value}")
        asked = (f"What is the value of {key}?", f"To what is {key} set?", f"What is {key} set to in {title}?", f"Which value does {key} have?", f"What is {key}?")
        questions.append(Question("key_value", rng.choice(asked), value))
        if len(value) > 4 and sum(value in line for line in lines) == 1 and rng.random() < 0.3:
            questions.append(Question("value_key", rng.choice((f"Which key has the value {value}?", f"Which setting is set to {value}?")), key))
    questions.append(Question("none_attribute", f"What is the value of {values.identifier(rng)}?", None))
    return Document(title, "\n".join(lines), questions)


def document(rng: random.Random, held_out: bool = False) -> Document:
    return rng.choices((fact_document, minutes_document, config_document), (7, 2, 2))[0](rng, held_out)


def needle(rng: random.Random, held_out: bool = False) -> tuple[str, list[Question]]:
    """A sentence to hide inside other text, and questions on it (the first one is answered)."""
    if rng.random() < 0.45:
        what = rng.choice(("secret code", "magic number", "access code", "special number", "password", "pass phrase", "locker number", "serial number", "ticket number", "secret word"))
        of = rng.choice((values.person(rng), values.place(rng), values.company(rng), _thing_entity(rng), _project(rng), values.word(rng)))
        value = rng.choice((values.code, values.number, values.word))(rng)
        sentence = rng.choice((f"The {what} of {of} is {value}.", f"The {what} for {of} is {value}.", f"Remember: the {what} for {of} is {value}.", f"Note that {value} is the {what} of {of}."))
        asked = rng.choice((f"What is the {what} of {of}?", f"What is the {what} for {of}?", f"Which {what} belongs to {of}?", f"Tell me the {what} of {of}."))
        other = rng.choice((values.person(rng), values.place(rng), values.word(rng)))
        return sentence, [Question("needle", asked, value), Question("none_needle", asked.replace(of, other), None)]
    subject = rng.choice(SUBJECTS)
    _, sentences, questions = facts(rng, subject, 1, held_out)
    return sentences[0], [dataclasses.replace(questions[0], family="needle_fact"), *questions[1:]]
