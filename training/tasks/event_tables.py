"""Happenings with several places: who did what, when, where, for how much (format: events.py)."""

TABLE = """
* action :: who=person what=task when=date :: responsible;task;due
> {who} will {what} by {when}.|It was decided that {who} should {what} before {when}.|Action: {who} to {what}, due {when}.|{who} agreed to {what} no later than {when}.|By {when}, {who} is to {what}.|The task to {what} went to {who} (deadline: {when}).|{who} was asked to {what}, and promised it for {when}.|Before {when} comes, {who} hopes to {what}.
who? Who will {what}?|Who agreed to {what}?|Who is to {what}?|Who was asked to {what}?|Who has the job to {what}?|Whose task is it to {what}?
what? What will {who} do?|What is {who} to do?|What did {who} agree to do?|What was {who} asked to do?|What task was given to {who}?|What did {who} promise?
when? By when will {who} {what}?|When is the task of {who} due?|What is {who}'s deadline?|By when must {who} {what}?|Until when does {who} have time to {what}?

* vote :: motion=task for=few against=few :: motion;in favour;against
> The motion to {motion} was carried by {for} votes to {against}.|With {for} votes in favour and {against} against, it was agreed to {motion}.|The proposal to {motion} received {for} votes for and {against} against.|On the proposal to {motion}, {for} voted yes and {against} voted no.|To {motion} pleased {for} members and displeased {against}.
for? How many voted to {motion}?|How many votes were in favour of the motion to {motion}?|How many people voted yes on the proposal to {motion}?|How many members were pleased by the plan to {motion}?
against? How many voted against the motion to {motion}?|How many people voted no on the proposal to {motion}?|How many votes were against the plan to {motion}?|How many were displeased by the plan to {motion}?

* said :: who=person quote=opinion on=matter :: speaker;words;subject
> "{quote}," said {who} about {on}.|On {on}, {who} told us: "{quote}."|{who} commented on {on}: "{quote}".|{who} was asked about {on} and answered: "{quote}".|Speaking of {on}, {who} remarked that {quote}.|{who} holds the view that {quote}, at least as far as {on} is concerned.|When {on} came up, {who} said that {quote}.|{who}, never shy, let us know about {on}: "{quote}".
quote? What did {who} say about {on}?|What did {who} say?|What is {who}'s opinion on {on}?|What was {who}'s comment on {on}?|What does {who} think of {on}?|How did {who} answer when asked about {on}?|Which view does {who} hold?|What did {who} let us know?
who? Who said that {quote}?|Who commented on {on}?|Who spoke about {on}?|Who holds the view that {quote}?|Who thinks that {quote}?|Who let us know that {quote}?
on? What did {who} talk about?|What was {who} asked about?|On what did {who} comment?|Which subject did {who} speak on?

* bequest :: what=thing to=person :: item;heir
> I leave {what} to {to}.|{what} shall go to {to}.|To {to} I bequeath {what}.|{to} is to receive {what}.|I give {what} to my friend {to}.|My heirs shall hand {what} to {to}.|{to} shall have {what}, with my love.|After my death {what} becomes the property of {to}.
to? Who gets {what}?|Who inherits {what}?|To whom is {what} left?|To whom does {what} go?|Who is to receive {what}?|Whose property does {what} become?
what? What does {to} get?|What does {to} inherit?|What is left to {to}?|What is {to} to receive?|Which thing goes to {to}?|What becomes the property of {to}?

* item :: qty=count what=ware each=price :: quantity;description;unit price
> {qty} x {what} at {each} each.|{what}: {qty} pieces, {each} apiece.|{qty} units of {what}, unit price {each}.|For {qty} {what} we charge {each} each.|{what}, quantity {qty}, price per unit {each}.|Delivered: {qty} {what} ({each} per piece).|The customer took {qty} {what}, each at {each}.
qty? How many {what} were ordered?|How many {what} were delivered?|What is the quantity of {what}?|How many {what} are listed?|How many {what} did the customer take?
each? What is the unit price of {what}?|How much is one of the {what}?|How much do {what} cost each?|What is charged for each of the {what}?|What does the customer pay apiece for {what}?

* shift :: who=person day=weekday from=time to=time :: name;day;from;to
> {who} works on {day} from {from} to {to}.|On {day}, {who} is on duty from {from} until {to}.|{day}: {who}, {from} - {to}|{who} ({day}, {from} to {to})|{who} covers {day}, starting at {from} and ending at {to}.|The {day} shift of {who} begins at {from} and is over at {to}.
who? Who works on {day}?|Who is on duty on {day}?|Who covers {day}?|Whose shift is on {day}?
day? On which day does {who} work?|When does {who} work?|Which day does {who} cover?|On what day is {who} on duty?|Which is the shift of {who}?
from? When does {who} start on {day}?|At what time does {who}'s shift begin?|From when does {who} work on {day}?|From what time is {who} there on {day}?
to? Until when does {who} work?|When does {who}'s shift end?|At what time is {who} done on {day}?|At what time is the shift of {who} over?

* goal :: who=person minute=minute how=scoring :: scorer;minute;how
> {who} scored in the {minute} minute {how}.|In the {minute} minute {who} found the net {how}.|{who} struck {how} ({minute} minute).|{how}, {who} beat the keeper in the {minute} minute.|The {minute} minute brought a goal by {who} {how}.|The crowd rose when {who} put the ball in {how} in the {minute} minute.
who? Who scored in the {minute} minute?|Who found the net in the {minute} minute?|Who scored {how}?|Who put the ball in in the {minute} minute?
minute? In which minute did {who} score?|When did {who} score?|When did {who} find the net?|In which minute did the crowd rise for {who}?
how? How did {who} score?|How was the goal of {who} scored?|In what way did {who} find the net?|How did the ball go in when {who} scored?

* entry :: when=date where=place did=deed saw=sight :: date;place;activity;sight
> {when}. Today we reached {where}. We {did} and saw {saw}.|{when}, {where}: I {did}. In the evening I noticed {saw}.|On {when} I was in {where}, where I {did}. There was {saw}.|{when} - arrived in {where}, {did}, and marvelled at {saw}.|We spent {when} in {where}. In the morning we {did}; after lunch we came upon {saw}.|{where}, {when}. I {did} and could not get enough of {saw}.
where? Where was the writer on {when}?|Where did the travellers arrive on {when}?|Which place was reached on {when}?|Where was {saw} seen?|In what place did the diary writer stay on {when}?
when? When was the writer in {where}?|On which day did the travellers reach {where}?|When did they see {saw}?|What is the date of the day in {where}?
saw? What did the writer see in {where}?|What was seen on {when}?|What was there to see in {where}?|What did the travellers notice in {where}?|Of what could the writer not get enough in {where}?
did? What did the writer do in {where}?|What was done on {when}?|What happened in {where}?|How was the day in {where} spent?

* forecast :: region=place sky=weather temp=airtemp :: region;weather;temperature
> {region}: {sky}, {temp}.|In {region} expect {sky} and {temp}.|{region} will see {sky}, with highs of {temp}.|There will be {sky} over {region} at {temp}.|For {region} we forecast {sky}; the thermometer climbs to {temp}.|People in {region} wake up to {sky} and {temp}.
sky? What will the weather be like in {region}?|What is the forecast for {region}?|What weather is expected in {region}?|What should {region} expect?|To what do people in {region} wake up?
temp? How warm will it be in {region}?|What temperature is expected in {region}?|What is the high for {region}?|How far does the thermometer climb in {region}?
region? Where is {sky} expected?|Which place will see {sky}?|For which region is {sky} forecast?|Which region wakes up to {sky}?

* fix :: comp=module bug=bugtext author=person :: module;fix;author
> Fixed: {comp} {bug} (reported by {author}).|{comp} {bug}; this is over, thanks to {author}.|{comp} {bug}. Fixed by {author}.|A patch by {author} for the case where {comp} {bug}.|{author} corrected an error because of which {comp} {bug}.|The days when {comp} {bug} are over, thanks to {author}.
author? Who took care of the fault in {comp}?|Whom do we thank for the fix in {comp}?|Which name is given with the change to {comp}?|Whose name stands with the change to {comp}?
bug? What was wrong with {comp}?|What was the bug in {comp}?|What was fixed in {comp}?|Which error of {comp} is gone?
comp? What {bug}?|Which part {bug}?|In which module did {author} find or fix an error?|With which module is {author} named?

* purchase :: who=person what=athing price=amount where=seller :: buyer;article;price;seller
> {who} bought {what} from {where} for {price}.|{where} sold {what} to {who} for {price}.|For {price}, {who} purchased {what} at {where}.|{who} paid {price} to {where} for {what}.|{who} went to {where} and came home with {what}, which cost {price}.|At {where}, {who} parted with {price} and took away {what}.
who? Who bought {what}?|Who purchased {what}?|Who paid {price}?|Who came home with {what}?|Who took away {what}?
what? What did {who} buy?|What did {who} purchase?|What did {where} sell?|What did {who} get for {price}?|What did {who} take away?
price? How much did {who} pay?|How much did {what} cost?|What was the price of {what}?|How much did {who} spend at {where}?|With how much did {who} part?
where? Where did {who} buy {what}?|Who sold {what}?|From whom did {who} buy {what}?|Where did {who} spend {price}?|At which place did {who} take away {what}?

* put :: who=firstname what=thing where=spot :: person;thing;place
> {who} put {what} {where}.|{who} hid {what} {where}.|{what} was left {where} by {who}.|Nobody saw how {who} placed {what} {where}.|{who} had forgotten {what} {where}.|Quickly {who} laid {what} {where} and went away.|{where}: that was where {who} had stowed {what}.|It was {who} who took {what} along and set it down {where}.
where? Where did {who} put {what}?|Where is {what}?|Where was {what} left?|Where did {who} hide {what}?|Where can {what} be found?|Where was {what} set down?
who? Who put {what} {where}?|Who hid {what}?|Who left {what} behind?|Who had {what} last?|Who set {what} down?
what? What did {who} put {where}?|What did {who} hide?|What was left {where}?|What had {who} forgotten?|What did {who} set down {where}?

* gave :: from=firstname what=athing to=firstname why=occasion :: giver;gift;receiver;occasion
> {from} gave {to} {what} {why}.|{to} got {what} from {from} {why}.|{why}, {from} surprised {to} with {what}.|{from} handed {what} to {to} {why}.|{what} was {from}'s present to {to} {why}.|{to} unpacked {what}, which {from} had wrapped {why}.
from? Who gave {to} {what}?|From whom did {to} get {what}?|Who surprised {to}?|Who had wrapped {what}?
to? To whom did {from} give {what}?|Who got {what}?|Whom did {from} surprise?|Who unpacked {what}?
what? What did {from} give {to}?|What did {to} get?|With what did {from} surprise {to}?|What did {to} unpack?
why? When or why did {from} give {what} to {to}?|On what occasion did {to} get {what}?|For what occasion had {from} wrapped {what}?

* lesson :: day=weekday time=time what=subject room=room teacher=person :: day;time;subject;room;teacher
> {day} {time} {what}, {room}, {teacher}|On {day} at {time}, {teacher} teaches {what} in {room}.|{what} with {teacher}: {day}, {time}, {room}.|{teacher} gives {what} in {room} on {day} at {time}.|{what} takes place on {day} at {time} in {room} and is given by {teacher}.|Those who want to hear {teacher} on {what} go to {room} on {day} at {time}.
what? What does {teacher} teach?|What is taught on {day} at {time}?|Which subject is in {room}?|On what does one hear {teacher}?
room? Where is {what} taught?|In which room is {what}?|Where does {teacher} teach?|Where does one go to hear {teacher}?
teacher? Who teaches {what}?|Who gives {what}?|With whom is {what}?|Whom does one hear on {what}?
time? At what time is {what}?|When does {what} start?|At what time does {teacher} teach?|When does one go to hear {teacher}?
day? On which day is {what}?|On what day does {teacher} teach?|Which day is {what} on?|On which day does one hear {teacher}?

* slot :: time=time what=activity where=venue :: time;activity;place
> {time} {what} ({where})|At {time}, {what} in {where}.|{time}: {what}, {where}|{what} starts at {time} in {where}.|We go on at {time} with {what} in {where}.|Those who like {what} come to {where} at {time}.
what? What is on at {time}?|What takes place in {where}?|What happens at {time}?|What starts at {time}?|What is there for those who come to {where}?
time? When is {what}?|At what time does {what} start?|When does {what} take place?|When does one come for {what}?
where? Where is {what}?|Where does {what} take place?|In which place is {what}?|Where does one come for {what}?

* job :: from=fromyear to=toyear as=job at=company :: from;to;position;employer
> {from} - {to}: {as} at {at}|From {from} to {to} I worked as {as} for {at}.|{as}, {at} ({from}-{to})|I joined {at} in {from} and stayed as {as} until {to}.|Between {from} and {to}, {at} employed me as {as}.|The years {from} to {to} I spent at {at}, earning my bread as {as}.
as? What did the applicant do at {at}?|As what did the applicant work for {at}?|What was the job at {at}?|What position was held at {at}?|How was bread earned at {at}?
at? Where did the applicant work as {as}?|Who employed the applicant as {as}?|At which company was the applicant {as}?|Which employer came in {from}?|Where was bread earned as {as}?
from? When did the work for {at} begin?|Since when did the applicant work at {at}?|In which year did the applicant join {at}?|When did the years at {at} start?
to? Until when did the applicant work at {at}?|When did the work at {at} end?|In which year was {at} left?|When were the years at {at} over?

* patient_event :: time=time what=care who=person :: time;measure;nurse
> {time}: {what} by {who}.|At {time}, {who} noted: {what}.|{time} {what} ({who})|{who} recorded at {time}: {what}.|{what} at {time}, signed {who}.|The chart shows {what} at {time}, in the hand of {who}.
who? Who recorded {what}?|Who signed for {what}?|Who noted {what}?|In whose hand is {what} in the chart?
time? When was {what} recorded?|At what time was {what} noted?|What is the time given for {what}?|At which hour does the chart show {what}?
what? What was recorded at {time}?|What did {who} note?|What happened at {time}?|What does the chart show at {time}?

* logline :: time=stamp host=word what=message :: time;host;message
> {time} {host}: {what}|[{time}] {host} {what}|{time} ERROR {host} - {what}|{time} WARN {host} {what}|<{time}> {host} reported: {what}|{host} wrote at {time}: {what}
what? What did {host} report?|What happened on {host}?|What was logged at {time}?|What is the message of {host}?|What did {host} write?
time? When did {host} report {what}?|At what time did {what} happen on {host}?|When was the message of {host} logged?|At what time did {host} write?
host? Which host reported {what}?|Where did {what} happen?|On which host was {what} logged?|Which host wrote at {time}?

* donation :: who=person sum=amount for=noun :: donor;amount;purpose
> {who} gave {sum} for the {for}.|{who} donated {sum} to help pay for the {for}.|For the {for} we received {sum} from {who}.|{sum} for the {for} came from {who}.|The {for} owes {sum} to the kindness of {who}.
who? Who donated money for the {for}?|Who gave {sum}?|From whom did the money for the {for} come?|To whose kindness does the {for} owe {sum}?
sum? How much did {who} give?|How much was donated for the {for}?|What sum came from {who}?|How much does the {for} owe to the kindness of {who}?
for? What did {who} give money for?|For what did {who} donate?|For what did {sum} come in?|What owes {sum} to {who}?

* award :: who=person what=prizename for=feat :: winner;prize;reason
> {who} received {what} for {for}.|{what} went to {who} for {for}.|For {for}, {who} was awarded {what}.|The jury honoured {who} with {what} for {for}.|{who} took home {what}, thanks to {for}.|It was {for} that brought {who} {what}.
who? Who received {what}?|To whom did {what} go?|Who was honoured for {for}?|Who took home {what}?
what? What did {who} receive?|What prize did {who} win?|What was awarded for {for}?|What did {who} take home?
for? For what was {who} honoured?|Why did {who} receive {what}?|For what did {what} go to {who}?|What brought {who} {what}?

* sighting :: what=animal n=few where=place who=person :: species;number;place;observer
> {who} saw {n} {what}s near {where}.|Near {where}, {n} {what}s were counted by {who}.|{n} {what}s were sighted at {where} ({who}).|{who} reports {n} {what}s from {where}.|At {where} the binoculars of {who} showed {n} {what}s.
n? How many {what}s were seen near {where}?|How many {what}s did {who} see?|How many {what}s were counted?|How many {what}s did the binoculars show?
where? Where were {what}s seen?|Where did {who} see {what}s?|From which place were {what}s reported?|At which place did the binoculars of {who} show something?
who? Who saw {what}s?|Who counted {what}s near {where}?|Who reported from {where}?|Whose binoculars showed {what}s?
what? Which animals were seen near {where}?|What did {who} see?|What was counted at {where}?|What did the binoculars of {who} show?

* loan :: who=person what=title back=date :: borrower;title;due
> {who} borrowed "{what}" until {back}.|"{what}" is on loan to {who} and due back on {back}.|{who} must return "{what}" by {back}.|The reader {who} has "{what}" (due {back}).|We expect "{what}" back from {who} on {back}.
who? Who borrowed "{what}"?|Who has "{what}"?|Who must return "{what}"?|From whom do we expect "{what}" back?
what? What did {who} borrow?|Which book does {who} have?|What must {who} return?|Which title do we expect back from {who}?
back? When is "{what}" due back?|By when must {who} return "{what}"?|Until when may {who} keep "{what}"?|When do we expect "{what}" back?

* appoint :: who=person with=person2 when=date at=time why=concern :: name;with;date;time;reason
> {who} sees {with} on {when} at {at} about {why}.|Appointment: {who} with {with}, {when}, {at} ({why}).|On {when} at {at}, {with} expects {who} because of {why}.|{who} has an appointment with {with} for {why} on {when} at {at}.|{why} takes {who} to {with} on {when} at {at}.
with? Whom does {who} see?|With whom does {who} have an appointment?|Who expects {who}?|To whom does {why} take {who}?
when? On which day does {who} see {with}?|When is {who}'s appointment?|What is the date of {who}'s appointment?|On what date does {why} take {who} to {with}?
at? At what time is {who}'s appointment?|At what time does {who} see {with}?|What time is {with} expecting {who}?|At which hour does {why} take {who} to {with}?
why? Why does {who} see {with}?|What is {who}'s appointment about?|What is the reason for {who}'s visit?|What takes {who} to {with}?

* result :: who=person place=rank time=racetime :: name;rank;time
> {who} came {place} in {time}.|{who} finished {place} with a time of {time}.|{place}: {who}, {time}|In {time}, {who} crossed the line {place}.|{place} over the line was {who}, for whom the clock stopped at {time}.
who? Who came {place}?|Who finished {place}?|Who crossed the line in {time}?|For whom did the clock stop at {time}?
time? What was {who}'s time?|How long did {who} take?|In what time did {who} finish?|At what time did the clock stop for {who}?
place? Which place did {who} get?|How did {who} finish?|What rank did {who} reach?|In which position was {who} over the line?

* ingredient :: qty=measureq what=food for=useof :: amount;ingredient;use
> {qty} of {what} for {for}|Take {qty} of {what} for {for}.|{qty} {what} ({for})|For {for} you need {qty} of {what}.|Put aside {qty} of {what}; it is for {for}.|{what}, {qty}, to be used for {for}
qty? What quantity of {what} do I need?|What quantity of {what} goes into it?|What amount of {what} is needed?|What quantity of {what} is put aside?
for? What do I use the {what} for?|For what do I need the {what}?|Where do I put the {what}?|What should I do with the {what}?
what? What do I need for {for}?|What is used for {for}?|Which ingredient is for {for}?|What is put aside for {for}?

* step :: n=ordinal what=instruction with=toolname :: step;action;tool
> {n}, {what} with {with}.|In the {n} step, {what} using {with}.|Step {n}: {what} (tool: {with})|{with} is what you need to {what} in the {n} step.|The {n} thing to do is to {what} with {with}.|Reach for {with} in the {n} step and {what}.
what? What is to be done in the {n} step?|What do I do with {with}?|What is the {n} step?|What is the {n} thing to do?|For what does one reach for {with}?
with? What do I need to {what}?|Which tool is used to {what}?|With what do I {what}?|What is used in the {n} step?|For what tool does one reach to {what}?

* symptom :: sign=signal cause=cause remedy=instruction :: symptom;cause;remedy
> If {sign}, the reason is {cause}; {remedy}.|{sign}: caused by {cause}. Remedy: {remedy}.|When {sign}, think of {cause} and {remedy}.|{sign} - {cause} - {remedy}|Should you find that {sign}, {cause} is to blame: {remedy}.
cause? Why is it that {sign}?|What is the reason if {sign}?|What causes it when {sign}?|What is to blame if {sign}?
remedy? What should I do if {sign}?|What helps when {sign}?|What is the remedy if {sign}?|How do I put it right if {sign}?

* exhibit :: no=code what=athing age=year origin=place :: number;object;year;origin
> No. {no}: {what}, {age}, from {origin}.|Number {no} is {what} made in {origin} in {age}.|{what} ({no}) was made in {origin} in {age}.|From {origin} comes number {no}, {what} of {age}.|{origin} sent us {what}, listed as {no}, which goes back to {age}.
what? What is number {no}?|What was made in {origin}?|Which object has the number {no}?|What did {origin} send us?
age? From which year is {what}?|When was number {no} made?|How old is {what}?|To what year does number {no} go back?
origin? Where does {what} come from?|Where was number {no} made?|What is the origin of number {no}?|Who sent us {what}?
no? What is the number of {what}?|Under which number is {what} listed?|Which number does {what} have?|As what is {what} listed?

* account :: date=date what=bookingtext sum=amount :: date;text;amount
> {date} {what} {sum}|On {date}, {sum} was booked for {what}.|{what}: {sum} ({date})|{sum} left the account on {date} for {what}.|We spent {sum} on {what} on {date}.|On {date} the cash box was lighter by {sum}, because of {what}.
sum? How much was spent on {what}?|How much was booked for {what}?|What sum was booked on {date}?|How much did {what} cost?|By how much was the cash box lighter on {date}?
what? What was paid for on {date}?|For what was {sum} booked?|What was the money of {date} for?|Because of what was the cash box lighter on {date}?
date? When was {what} paid?|On which day was {sum} booked?|When was money spent on {what}?|When did {what} make the cash box lighter?

* witness :: who=person saw=sight where=spot at=time :: witness;observation;place;time
> {who} stated that at {at} there was {saw} {where}.|At {at}, according to {who}, {saw} was {where}.|Statement of {who}: {saw} {where}, {at}.|{who} remembers seeing {saw} {where} at {at}.|{who} swears to have laid eyes on {saw} {where} at {at}.
saw? What did {who} see?|What was {where}?|What does {who} remember seeing?|What did {who} lay eyes on?
where? Where did {who} see {saw}?|Where was {saw}?|In what place does {who} remember seeing {saw}?|Where did {who} lay eyes on {saw}?
at? When did {who} see {saw}?|At what time was {saw} {where}?|What time did {who} give?|At which hour did {who} lay eyes on {saw}?
who? Who saw {saw}?|Who stated that {saw} was {where}?|Who remembers seeing {saw}?|Who laid eyes on {saw}?

* contact :: who=person role=rolename phone=phone mail=email :: name;role;phone;e-mail
> {who} ({role}): {phone}, {mail}|For the {role}, {who}, call {phone} or write to {mail}.|{role}: {who}, phone {phone}, e-mail {mail}|{who} is our {role}; phone {phone}, mail {mail}.|As {role}, {who} picks up at {phone} and reads {mail}.
who? Who is the {role}?|Who answers on {phone}?|Who is our {role}?|Who picks up at {phone}?
phone? What is {who}'s phone number?|How do I call the {role}?|On which number can I reach {who}?|What is the number of the {role}?|Where does {who} pick up?
mail? What is {who}'s e-mail address?|Where do I write to the {role}?|What is the mail address of {who}?|Which mail does the {role} read?
role? What is {who}'s role?|Which role does {who} have?|As what does {who} serve?|As what does {who} pick up at {phone}?

* reasoned :: who=person did=deed why=reason :: person;action;reason
> {who} {did} because {why}.|Because {why}, {who} {did}.|{who} {did}. The reason: {why}.|{who} {did}, as {why}.|{why}, and so {who} {did}.|{who} {did}; when asked, {who} explained that {why}.
why? Why did it happen that {who} {did}?|What was the reason that {who} {did}?|For what reason was it that {who} {did}?|How did {who} explain what happened?
who? Who {did}?|Who was it that {did}?|Which person {did}?|Of whom do we read that he or she {did}?

* moved :: who=person from=place to=place2 when=year :: name;from;to;year
> {who} moved from {from} to {to} in {when}.|In {when}, {who} left {from} for {to}.|{who} came to {to} from {from} in {when}.|{from} lost {who} to {to} in {when}.|It was in {when} that {who} packed up in {from} and settled in {to}.
to? Where did {who} move to?|To which place did {who} go from {from}?|Where did {who} go in {when}?|Where did {who} settle?
from? Where did {who} move from?|Which place did {who} leave?|From where did {who} come to {to}?|Where did {who} pack up?
when? When did {who} move to {to}?|In which year did {who} leave {from}?|When did {who} come to {to}?|When did {who} pack up?
who? Who moved to {to}?|Who left {from}?|Who came to {to} from {from}?|Who packed up in {from}?

* rule :: what=conduct where=area else=sanction :: forbidden;place;consequence
> {what} is forbidden {where}; otherwise {else}.|{where}, {what} is not allowed. Consequence: {else}.|Anyone caught {what} {where} faces this: {else}.|{what} {where} leads to the following: {else}.|No {what} {where}, or else {else}.
what? What is forbidden {where}?|What is not allowed {where}?|What must one not be caught doing {where}?
else? What happens if someone is caught {what} {where}?|What is the consequence of {what}?|What does {what} lead to?|What comes of {what} {where}?
where? Where is {what} forbidden?|Where is {what} not allowed?|Where must there be no {what}?

* cover :: what=risk limit=amount excess=amount2 :: risk;limit;excess
> {what} is covered up to {limit}, with an excess of {excess}.|For {what} we pay no more than {limit}; you bear {excess}.|{what}: limit {limit}, excess {excess}|In case of {what}, the limit is {limit} and the excess {excess}.|Should you suffer {what}, count on {limit} at most, less {excess}.
limit? How much is paid for {what} at most?|Up to what sum is {what} covered?|What is the limit for {what}?|On how much can one count at most in case of {what}?
excess? What is the excess for {what}?|How much do I bear in case of {what}?|How much must the insured pay for {what}?|What is taken off in case of {what}?

* timeline :: year=year what=founding who=person :: year;event;person
> In {year}, {what} under {who}.|{year}: {what}, led by {who}|{who} saw to it that in {year} {what}.|Thanks to {who}, {what} in {year}.|{what} in {year}; the driving force was {who}.|Nothing would have moved in {year} without {who}: {what}.
what? What happened in {year}?|What did {who} see to?|What took place in {year}?|What moved in {year}?
year? In which year did {who} make history?|When was it that {what}?|In which year do we hear of {who}?|In what year did something move thanks to {who}?
who? Who was the driving force in {year}?|Under whom was it that {what}?|Thanks to whom was it that {what}?|Without whom would nothing have moved in {year}?

* glossary :: term=termname means=meaning where=area :: term;meaning;use
> {term}: {means} (heard {where}).|By {term} we understand {means}; the word is used {where}.|{where} people say {term} when they mean {means}.|{term} is the name for {means} and is common {where}.|What is called {term} {where} is nothing but {means}.
means? What does {term} mean?|What is {term}?|What do we understand by {term}?|What do people mean when they say {term}?|What is meant by {term}?|What is nothing but another word for {term}?
term? What is the name for {means}?|Which word means {means}?|What is {means} called?|What do people call {means}?|What is another word for {means}?
where? Where is the word {term} used?|Where do people say {term}?|Where is {term} common?|Where is it called {term}?

* booking :: who=person room=room from=date nights=few :: guest;room;arrival;nights
> {who} has booked {room} from {from} for {nights} nights.|{room}: {who}, arriving {from}, {nights} nights|From {from}, {who} stays in {room} for {nights} nights.|{who} arrives on {from} and takes {room} for {nights} nights.|For {nights} nights {room} is home to {who}, who comes on {from}.
who? Who has booked {room}?|Who stays in {room}?|Who arrives on {from}?|Who takes {room}?|To whom is {room} home?
room? Which room has {who} booked?|Where does {who} stay?|In which room does {who} sleep?|Which room is given to {who}?
from? When does {who} arrive?|On which day does {who} come?|From when has {who} booked?|When is {who} expected?
nights? How many nights does {who} stay?|For how many nights has {who} booked?|How long does {who} stay?|For how long is {room} home to {who}?

* stop :: place=place arr=time dep=time track=gatename :: stop;arrival;departure;track
> {place}: arrive {arr}, depart {dep}, {track}|The train reaches {place} at {arr} and goes on at {dep} from {track}.|Arrival in {place} is at {arr}; departure at {dep}, {track}.|At {place} we stop from {arr} to {dep} on {track}.|Between {arr} and {dep} you may stretch your legs in {place}, on {track}.
arr? When does the train reach {place}?|At what time is the arrival in {place}?|When do we get to {place}?|From when may one stretch one's legs in {place}?
dep? When does the train leave {place}?|At what time is the departure from {place}?|When do we go on from {place}?|Until when may one stretch one's legs in {place}?
track? From which track does the train leave {place}?|Where in {place} does the train stop?|Which track is used in {place}?|Where may one stretch one's legs in {place}?
place? Which stop is reached at {arr}?|Where is the train at {dep}?|Which stop is left at {dep}?|Where may one stretch one's legs from {arr}?

* menuitem :: dish=dish price=price with=food :: dish;price;side
> {dish} with {with} ........ {price}|{dish}, served with {with}, is {price}.|For {price} you get {dish} and {with}.|{dish} ({with}): {price}|{with} comes with our {dish} at {price}.|Whoever orders {dish} pays {price} and gets {with} on the side.
price? How much is {dish}?|What does {dish} cost?|What is the price of {dish}?|What does whoever orders {dish} pay?
with? What comes with {dish}?|With what is {dish} served?|What is the side dish with {dish}?|What does whoever orders {dish} get on the side?
dish? What can I get for {price}?|Which dish comes with {with}?|What is served with {with}?|What should one order to get {with} on the side?

* phase :: name=phasename until=date who=person cost=amount :: phase;end;head;cost
> {name} lasts until {until}, is led by {who} and costs {cost}.|{who} leads {name}, which ends on {until} and has {cost} to spend.|{name}: {who}, until {until}, {cost}|For {name} there are {cost}; {who} must finish it by {until}.|By {until} {who} hopes to have {name} behind the team, at a price of {cost}.
until? When does {name} end?|Until when does {name} last?|By when must {who} finish?|When will {name} be behind the team?
who? Who leads {name}?|Who must finish {name}?|By whom is {name} led?|Who hopes to have {name} behind the team?
cost? How much does {name} cost?|How much money is there for {name}?|What does {who} have to spend?|At what price will {name} be behind the team?

* hearing :: case=code when=date room=room judge=person :: case;date;room;judge
> Case {case} is heard on {when} in {room} before {judge}.|{judge} hears case {case} on {when}, {room}.|{when}, {room}: case {case} ({judge})|In {room}, {judge} opens case {case} on {when}.|The parties of case {case} meet {judge} in {room} on {when}.
when? When is case {case} heard?|On which day does {judge} sit?|What is the date of case {case}?|When do the parties of case {case} meet?
room? Where is case {case} heard?|In which room does {judge} sit?|Where does case {case} open?|Where do the parties of case {case} meet?
judge? Who hears case {case}?|Before whom is case {case} heard?|Which judge has case {case}?|Whom do the parties of case {case} meet?

* survey :: topic=noun yes=percent no=percent2 :: question;yes;no
> {yes} want to keep the {topic}, {no} do not.|Asked about the {topic}, {yes} said yes and {no} said no.|The {topic}: {yes} in favour, {no} against|While {yes} are happy with the {topic}, {no} are not.|The {topic} has {yes} of the people behind it and {no} against it.
yes? How many want to keep the {topic}?|What share is in favour of the {topic}?|How many are happy with the {topic}?|How much of the people does the {topic} have behind it?
no? How many do not want the {topic}?|What share is against the {topic}?|How many said no to the {topic}?|How much of the people does the {topic} have against it?

* inspection :: what=matter state=condition_of who=person when=date :: object;state;inspector;date
> {who} inspected {what} on {when}: {state}.|On {when}, {what} was found {state} by {who}.|{what}: {state} ({who}, {when})|According to {who}, who came on {when}, {what} is {state}.|{when}: {what} checked by {who}, who called it {state}.|When {who} looked over {what} on {when}, it was {state}.
state? In what state is {what}?|What was the result for {what}?|How did {who} find {what}?|What is the condition of {what}?|How was {what} when looked over?
who? Who inspected {what}?|Who checked {what}?|By whom was {what} inspected?|Who looked over {what}?
when? When was {what} inspected?|On which day did {who} come?|When was {what} checked?|When was {what} looked over?
what? What did {who} inspect?|What was found {state}?|What was inspected on {when}?|What did {who} look over?

* offer :: firm=company price=amount time=duration plus=extra :: firm;price;time;extra
> {firm} offers to do it for {price} in {time}, {plus}.|{firm}: {price}, {time}, {plus}|For {price}, {firm} would need {time}, {plus}.|The offer of {firm} is {price} ({time}), {plus}.|Should {firm} be chosen, we pay {price}, wait {time} and have it {plus}.
price? How much does {firm} ask?|What is the price offered by {firm}?|For how much would {firm} do it?|What do we pay should {firm} be chosen?
time? How long would {firm} need?|In what time would {firm} do it?|How much time does {firm} want?|How long do we wait should {firm} be chosen?
plus? What is special about the offer of {firm}?|What does {firm} add to the offer?|What else does {firm} say?|How do we have it should {firm} be chosen?
firm? Which firm asks {price}?|Who would need {time}?|Who offers to do it for {price}?|Who should be chosen if we want to pay {price}?

* chapter :: n=digit title=title about=sight pages=count :: chapter;title;subject;pages
> Chapter {n}, "{title}", deals with {about} on {pages} pages.|{n}. {title} ({pages} pages): {about}|In chapter {n}, called "{title}", the author turns to {about} for {pages} pages.|"{title}" is chapter {n}; it has {pages} pages and is about {about}.|The reader of chapter {n} ("{title}") spends {pages} pages with {about}.
title? What is chapter {n} called?|What is the title of chapter {n}?|Which title does chapter {n} have?|Which chapter title does the reader find at number {n}?
about? What is chapter {n} about?|With what does "{title}" deal?|What is the subject of chapter {n}?|With what does the reader of chapter {n} spend time?
pages? How many pages does chapter {n} have?|How long is "{title}"?|How many pages is chapter {n} long?|How many pages does the reader of "{title}" spend?

* dose :: drug=medicine amount=dosage when=mealtime for=illness :: medicine;dose;time;reason
> {drug}: {amount} {when} for {for}.|Take {amount} of {drug} {when}; it is for {for}.|For {for}, {amount} of {drug} {when}.|{when}, {amount} of {drug} against {for}.|{drug} helps with {for}: swallow {amount} {when}.
amount? How much {drug} should be taken?|What is the dose of {drug}?|How much {drug} do I take?|How much {drug} is to be swallowed?
when? When should {drug} be taken?|When do I take {drug}?|At what time of day is {drug} taken?|When is {drug} to be swallowed?
for? What is {drug} for?|For what is {drug} taken?|Against what is {drug} given?|With what does {drug} help?
drug? What should be taken against {for}?|Which medicine is for {for}?|What do I take for {for}?|What is to be swallowed for {for}?
"""
