"""Words of questions on projects that are planned by tool: what they are about, how it is said.

In every table each fifth row is held out; those are the forms that the questions of
:mod:`lilith.evals.planning_prompts` are written in, whose projects and tasks are not in here.
"""

from __future__ import annotations

# A project, and names of its tasks in the order in which they are done.
_PROJECTS = """
the booking website: wireframes, database, checkout, search, translation, launch
the harvest festival: stage, posters, volunteers, bands, parking, clean-up
the solar farm: soil test, fencing, panels, inverters, grid link, commissioning
the payroll migration: export, mapping, dry run, training, cutover, decommissioning
the beekeeping course: syllabus, hives, suits, slides, exam, certificates
the tram line: route study, rails, masts, stops, signals, test rides
the recipe book: recipes, photos, layout proof, index, binding, shipping
the vaccine depot: cold room, alarms, labels, pick lists, drill, go-live
the school play: casting, costumes, scenery, lights, dress run, premiere
the pricing engine: curve feed, calibration, kernels, benchmarks, sign-off, rollout
the wine cellar: excavation, drainage, vaulting, racking, humidity control, stocking
the claims portal: user stories, login, upload, scoring, load test, pilot
a community garden: beds, compost, pipes, seedlings, benches, open day
the fraud detector: labels, features, training run, thresholds, shadow mode, switch-on
the ferry terminal: dredging, pilings, ramp, ticket hall, buoys, first sailing
the brand relaunch: interviews, logo, style guide, signage, website copy, unveiling
the risk warehouse: schema, loaders, reconciliation, dashboards, user trial, retirement
the podcast: pilot script, microphones, recording, editing, artwork, upload
the bridge repair: scaffold, sandblasting, welding, coating, load trial, reopening
the loyalty card: rules, issuer contract, card design, till update, staff briefing, mail-out
the observatory: dome, mirror, mount, camera, alignment, first light
the new bakery: ovens, dough room, shop counter, hygiene check, tasting, first bake
the hiring campaign: job profile, adverts, screening, interviews round, offers, onboarding
the order gateway: message spec, parser, throttles, failover, certification, first trades
the theatre archive: scanning, cropping, tagging, rights check, catalogue, exhibition
the water plant: intake, filters, dosing, pumps, sampling, supply
a charity run: course map, sponsors, marshals, timing chips, medals, race day
the chess app: rules engine, board view, opponent, ranking, beta, store listing
the greenhouse: frame, glazing, heating, irrigation, shading, first crop
the audit trail: event model, collectors, storage, retention, viewer, attestation
the ski lift: pylons, cable, cabins, drive unit, brake trial, season start
the town museum: collection plan, cases, captions, audio guide, guards, gala
the cloud move: inventory, landing zone, replication, rehearsed switch, traffic switch, wind-down
the language school: curriculum, teachers, classrooms, placement test, enrolment, first lesson
the backtest cluster: machines, scheduler, data mirror, smoke run, quotas, handbook
the furniture line: prototypes, joinery, upholstery, packaging, showroom, orders
the radio mast: footing, lattice, antenna, lightning rod, tuning, broadcast
the tax filing: ledgers, accruals, schedules, partner review, corrections, submission
the fish hatchery: tanks, aeration, brood stock, feeding plan, sorting, delivery
the search index: crawler, tokeniser, postings, ranking model, query service, cutover day
the parking garage: ramps, lighting, barriers, pay points, markings, ribbon cutting
the garden wedding: guest list, marquee, flowers, music, cake, ceremony
the credit model: sample, segmentation, scorecard, validation report, committee, deployment
the robot arm: motors, gripper, controller, safety cage, calibration run, demo
the news site: editorial plan, templates, archive import, adverts setup, soft launch, opening night
the drone survey: flight plan, sensors, test flight, image capture, stitching, map
the call centre: phone lines, scripts, headsets, coaching, night shift, full service
the irrigation canal: levelling, digging, lining, sluices, flooding test, water day
the limit monitor: limits, position feed, breach logic, alerts, paper trading, desk use
the film shoot: screenplay, scouting, set building, principal shots, rough cut, sound mix
the clinic wing: wards, oxygen lines, x-ray room, furnishing, licence, first patients
a hackathon: theme, jury, prizes, mentors, pitches, party
the chip tape-out: floorplan, synthesis, routing, timing closure, mask order, wafers
the toll road: survey marks, earthworks, asphalt, gantries, toll booths, traffic day
the rowing club: boathouse, pontoon, boats, safety kit, coaching plan, regatta
""".strip().splitlines()
PROJECTS = tuple(
    (title, tuple(names.split(", "))) for title, names in (line.split(": ") for line in _PROJECTS)
)
PEOPLE = (
    "Ann", "Bela", "Carlos", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jorge",
    "Kaya", "Leo", "Mina", "Nils", "Olga", "Pavel", "Quinn", "Rosa", "Sam", "Tara",
    "Uma", "Viktor", "Wanda", "Xenia", "Yusuf",
)  # fmt: skip
TEAMS = (
    "engineers", "developers", "builders", "analysts", "technicians",
    "designers", "electricians", "testers", "helpers", "operators",
)  # fmt: skip
# Of one number, and of [optimistic, likely, pessimistic].
TIMES = (
    "{b} days", "{b}d", "{b} working days", "{b} workdays", "{b} business days",
    "{words} days", "{b} days of work", "some {b} days", "roughly {b} days", "{b} full days",
    "about {b} days", "{words} working days", "{b} days net", "around {b} days",
    "{b} days' work",
)  # fmt: skip
THREE_POINTS = (
    "between {a} and {c} days, most likely {b}", "{b} days ({a} to {c})",
    "best case {a}, likely {b}, worst case {c} days",
    "optimistic {a}, likely {b}, pessimistic {c} days", "{a} to {c} days, likely {b}",
    "{a}-{c} days, probably {b}", "{b} days, at best {a}, at worst {c}",
    "min {a}, mode {b}, max {c} days", "from {a} to {c} days with {b} as the likeliest",
    "probably {b} days, but anything from {a} to {c}",
    "low {a}, mid {b}, high {c} days", "likely {b} days, in the range {a} to {c}",
    "[{a}, {b}, {c}] days", "{a}/{b}/{c} days (optimistic/likely/pessimistic)",
    "{b} days expected, {a} if all goes well, {c} if not",
    "at least {a}, most likely {b} and at most {c} days",
    "{a} days if lucky, {b} normally, {c} if things go wrong",
    "{b} days is likely, {a} is possible, {c} is the worst", "O {a}, M {b}, P {c} days",
    "anywhere between {a} and {c} days, I would say {b}",
)  # fmt: skip
# A listing: its heading, a task, what follows if it waits for others, the mark before what else is
# said of it, the mark between tasks, and how it ends.
LISTINGS = (
    ("\n", "- {name}: {time}", ", needs {after}", ", ", "\n", "\n"),
    ("Tasks: ", "{name}, {time}", ", behind {after}", ", ", "; ", "."),
    ("\n", "{name}, {time}", ", waits for {after}", ", ", "\n", "\n"),
    ("The work: ", "{name} needs {time}", " and can start after {after}", ", ", "; ", "."),
    ("\n", "- {name}: {time}", ", after {after}", ", ", "\n", "\n"),
    ("\n", "* {name}, {time}", ", not before {after}", ", ", "\n", "\n"),
    ("\n", "{name} | {time}", " | needs {after}", " | ", "\n", "\n"),
    ("We have to do this: ", "{name} for {time}", ", waiting for {after}", ", ", "; ", "."),
    ("\n", "{name} = {time}", " <- {after}", " @ ", "\n", "\n"),
    ("Its tasks: ", "{name} takes {time}", " and comes after {after}", ", ", "; ", "."),
    ("\n", "* {name} [{time}]", " depends on {after}", ", ", "\n", "\n"),
    ("Steps: ", "{name}: {time}", ", blocked by {after}", ", ", "; ", "."),
    ("\n", "> {name}: {time}", "; only after {after}", "; ", "\n", "\n"),
    ("What must be done: ", "{name}, which takes {time}", " and requires {after}", ", ", "; ", "."),
    ("\ntask | time | after\n", "{name} | {time}", " | {after}", " | ", "\n", "\n"),
    ("\n", "{name} -> {time}", " -> after {after}", " -> ", "\n", "\n"),
    ("Here is the work. ", "{name} will take {time}", ", to be done following {after}", ", ", "; ",
     "."),
    ("\n", "+ {name} ({time})", ", predecessor: {after}", ", ", "\n", "\n"),
    ("Work packages: ", "{name}: {time}", ", follows {after}", ", ", "; ", "."),
    ("\n", "{name}, {time}", ", comes behind {after}", ", ", "\n", "\n"),
)  # fmt: skip
PERSON = (
    "by {who}", "done by {who}", "owner {who}", "{who} does it", "assigned to {who}",
    "with {who}", "person: {who}", "{who} is on it", "person {who}", "{who}'s job",
    "who: {who}", "staffed with {who}", "responsible: {who}", "{who} takes it", "given to {who}",
)  # fmt: skip
TEAM = (
    "{who}", "needs {who}", "with {who}", "takes {who}", "{who} on it",
    "staff: {who}", "{who} working on it", "team: {who}", "done by {who}", "{who} at once",
)  # fmt: skip
HAVING = (
    "We have {who}. ",
    "There are {who}. ",
    "The team is {who}. ",
    "{Who} are available. ",
    "I can use {who}. ",
    "Staff: {who}. ",
    "{Who} work on it. ",
    "Count on {who}. ",
    "My team has {who}. ",
    "All in all {who}. ",
)
OUTAGE = (
    "{hours} of downtime", "downtime {hours}", "service down for {hours}", "{hours} offline",
    "an outage of {hours}",
    "stops the service for {hours}", "{hours} down", "interrupts the service for {hours}",
    "offline for {hours}", "down {hours}",
)  # fmt: skip
FINISH = (
    "Please plan {title}. We start on {start}. When are we done? {tasks}",
    "{Title}: first day {start}. {tasks} What is the end date?",
    "I need a finish date for {title}, which begins on {start}. {tasks}",
    "Schedule {title} from {start} on and give me the last day. {tasks}",
    "{Title} begins on {start}. {tasks} By which day is all of it done?",
    "Kick-off of {title} is {start}. {tasks} When can I announce the end?",
    "Work out when {title} ends if we begin on {start}. {tasks}",
    "We are doing {title}, start {start}. {tasks} Tell me when it ends.",
    "Start: {start}. Project: {title}. {tasks} End?",
    "On what date does {title} end when it starts on {start}? {tasks}",
    "Make a plan for {title} and name its end. Start is {start}. {tasks}",
    "From {start} we work on {title}. {tasks} When is the last task complete?",
    "Can you date the end of {title}? The work starts {start}. {tasks}",
    "My boss asks when {title} is ready. First day: {start}. {tasks}",
    "Give me the day on which {title} is complete, starting {start}. {tasks}",
)
LENGTH = (
    "How many working days will {title} last? It starts on {start}. {tasks}",
    "Plan {title} with a start on {start}. {tasks} What is the total duration?",
    "{Title} starts {start}. {tasks} How long will we be busy with it?",
    "Start {start}, project {title}. {tasks} Total number of working days?",
    "How much working time passes in {title}, begun on {start}? {tasks}",
    "I want to know how long {title} takes from {start} on. {tasks}",
    "We begin {title} on {start}. {tasks} How many days of work is that end to end?",
    "Tell me the duration of {title}. Begin: {start}. {tasks}",
    "{tasks} That is {title}, with {start} as its first day. Length in days?",
    "Length of {title}, please, if day one is {start}. {tasks}",
)
PATH = (
    "Find the critical path of {title}. Start {start}. {tasks}",
    "{Title} begins on {start}. {tasks} Which tasks are critical?",
    "Which sequence of tasks decides when {title} ends? We start on {start}. {tasks}",
    "Plan {title} from {start} and show me what must not slip. {tasks}",
    "What drives the end of {title}, begun on {start}? {tasks}",
    "We start {title} on {start}. {tasks} Give me the critical path.",
    "Start of {title}: {start}. {tasks} Where is no slack?",
    "I start {title} on {start}. {tasks} Name the chain that sets the end.",
    "Do a critical path analysis of {title}, first day {start}. {tasks}",
    "For {title} from {start} on, which tasks form the critical chain? {tasks}",
)
CHANCE = (
    "Plan {title} from {start}. Which date can I promise with 80% certainty? {tasks}",
    "{Title} starts on {start}. {tasks} Give me the P50 and P80 dates.",
    "We begin {title} on {start}. {tasks} How sure is the end date?",
    "Simulate {title}, start {start}. {tasks} What date holds in 80% of cases?",
    "What is the P80 finish of {title} begun on {start}? {tasks}",
    "Start {start}: {title}. {tasks} I want a safe date and the median one.",
    "{tasks} These are the estimates for {title}, start {start}. P80 date?",
    "How uncertain is the end of {title}? It starts on {start}. {tasks}",
    "My client wants a date for {title} that holds four times out of five. Start {start}. {tasks}",
    "Run a forecast for {title} from {start} on, please. {tasks}",
)
DUE = (
    "{Title} starts on {start}. {limit}{tasks} Can we hold that?",
    "Plan {title} from {start}. {limit}{tasks} Is it in time?",
    "We start {title} on {start}. {tasks} {limit}Will it be ready?",
    "Is the date safe? {limit}{Title} begins on {start}. {tasks}",
    "How likely is it that {title}, begun on {start}, is in time? {limit}{tasks}",
    "First day of {title}: {start}. {limit}{tasks} Do we make it?",
    "Check this deadline for {title}, start {start}. {limit}{tasks}",
    "Start {start}, {title}. {tasks} {limit}Realistic?",
    "{limit}We can begin {title} on {start}. {tasks} Is that enough time?",
    "Are we late with {title} if it starts on {start}? {limit}{tasks}",
)
STAFFED = (
    "Plan {title} from {start} with the people named. {limit}Does it work? {tasks}",
    "{Title} starts on {start}. {limit}{tasks} Is anybody overloaded?",
    "We begin {title} on {start}. {tasks} {limit}Do we have enough people?",
    "This is who does what in {title}, start {start}. {limit}{tasks} When are we done?",
    "Check the staffing of {title}, first day {start}. {limit}{tasks}",
    "Start of {title} is {start}. {limit}{tasks} Can the team do it?",
    "Schedule {title} from {start} so that nobody does two things at once. {limit}{tasks}",
    "I have these people for {title} from {start} on. {limit}{tasks} What is the plan?",
    "Please plan {title}, start {start}. {tasks} {limit}Will the team cope?",
    "Staff plan for {title}, begun on {start}, please. {limit}{tasks}",
)
DEADLINES = (
    "It must be finished by {deadline}. ",
    "The deadline is {deadline}. ",
    "It has to be done by {deadline}. ",
    "Deadline: {deadline}. ",
    "The last possible day is {deadline}. ",
    "We promised {deadline}. ",
    "It is due on {deadline}. ",
    "No later than {deadline}. ",
    "It should be over by {deadline}. ",
    "Everything must be complete on {deadline}. ",
    "The client expects it by {deadline}. ",
    "Due date {deadline}. ",
    "We have until {deadline}. ",
    "{deadline} is the deadline. ",
    "The end must not be after {deadline}. ",
)
OUTAGES = (
    "Plan {title} from {start}; the service may be down for {hours} in all. {limit}{tasks} "
    "Does that hold?",
    "{Title} starts on {start}. At most {hours} of downtime are allowed. {limit}{tasks} "
    "Is that possible?",
    "We start {title} on {start} and may be offline for {hours} at most. {limit}{tasks}",
    "Start {start}, project {title}, downtime limit {hours}. {limit}{tasks} Can we keep it?",
    "No more than {hours} of outage in {title}, please, start {start}. {limit}{tasks}",
    "Can {title} be done with {hours} of downtime or less? It begins on {start}. {limit}{tasks}",
    "Our users accept {hours} of downtime for {title}. First day {start}. {limit}{tasks} Enough?",
    "Check the downtime of {title} against a limit of {hours}. Start: {start}. {limit}{tasks}",
    "{Title}, from {start} on. Downtime budget: {hours}. {limit}{tasks} Do we stay within it?",
    "Begin {title} on {start} with an outage of {hours} as the upper limit. {limit}{tasks}",
)
CIRCLES = (
    "Plan {title} from {start}. {tasks}",
    "When is {title} done if it starts on {start}? {tasks}",
    "{Title} starts on {start}. {tasks} How long does it take?",
    "Please schedule {title}, first day {start}. {tasks}",
    "Give me dates for {title}, begun on {start}. {tasks}",
    "We begin {title} on {start}. {tasks} What is the plan?",
)
# Further questions, by what they ask about.
FURTHER = {
    "path": (
        "And what is the critical path?", "Which tasks must not be late?",
        "Name the critical tasks, please.", "What decides the end date?",
        "Which chain of tasks is the longest?",
        "Where does every day of delay count?", "Thanks. Critical path?",
    ),
    "slack": (
        "Which tasks have slack?", "What may slip without harm?",
        "Where can we be late, and by how much?", "Is there any slack in it?",
        "How much float do we have, and in which tasks?",
        "Which task can wait?", "And the slack?",
    ),
    "P80": (
        "And the P80 date?", "Which date holds with 80% certainty?",
        "What should I promise if I want to be 80% sure?", "P80, please.",
        "By when are we done in four of five cases?",
        "Give me the date with an 80% chance.", "And at 80%?",
    ),
    "P95": (
        "And the P95 date?", "Which date is almost certain, at 95%?",
        "What is the date with a 95% chance?", "P95, please.",
        "And if I want to be 95% sure?",
        "Give me the 95% date as well.", "What about 95%?",
    ),
    "length": (
        "How many working days is that?", "And how long does it take?",
        "What is the length in working days?", "Working days in total?",
        "How many days of work is it from start to end?",
        "And in working days?", "How long is that in all?",
    ),
    "finish": (
        "So when is it finished?", "And the end date?", "What is the last day?",
        "Remind me of the finish date.", "On which day is the work complete?",
        "When are we done, then?", "And the finish?",
    ),
}  # fmt: skip
