"""Word lists behind the generated documents: names of many cultures, trades, things, actions, reasons.

Lists are kept as text and split once. Nothing here is asked by heart: a word is an answer only where a document says it.
"""

FIRST_NAMES = (
    "Mara Jonas Edda Tomas Ines Kofi Lena Marek Aisha Pavel Nora Hugo Selma Ravi Petra Omar Greta Luis Hanna Yusuf Clara Dmitri Alma Henrik Zoe Viktor Amina Oskar Rosa Felix Ida Bruno Leila "
    "Emil Sofia Anton Freya Karl Naomi Ivan Judith Samuel Marta Daniel Ruth Peter Alice Robert Helen George Margaret James Linda Arthur Carol Walter Dorothy Adaeze Chinedu Ngozi Tunde Folake "
    "Kwame Abena Yaa Themba Nomsa Sipho Lindiwe Fatou Mamadou Ibrahim Zainab Khadija Hassan Layla Tariq Nadia Samir Farah Rami Dalia Reza Shirin Parisa Farhad Mehmet Elif Ayse Cem Deniz Emre "
    "Anjali Priya Vikram Arjun Meera Sanjay Lakshmi Rohan Kavita Dinesh Amrit Simran Nimal Chandra Wei Mei Jun Xin Hao Ling Yan Bo Minh Linh Thanh Hoa Somchai Malee Arun Budi Siti Dewi Agus "
    "Jose Maria Juan Carmen Pablo Lucia Diego Elena Miguel Pilar Rafael Ximena Joaquim Beatriz Tiago Ana Giulia Marco Chiara Lorenzo Francesca Paolo Camille Thierry Margaux Luc Amelie Etienne "
    "Solveig Bjorn Astrid Lars Ingrid Nils Sigrid Mikko Aino Jari Kaisa Priit Liis Janis Ilze Jonas Ruta Piotr Agnieszka Wojciech Kasia Jan Zuzana Milos Jelena Dragan Mirjana Ana Luka Katya Olga "
    "Sergei Natasha Boris Oksana Taras Levan Nino Armen Ani Yuki Haruto Sakura Kenji Aiko Takeshi Naoko Minjun Jisoo Hyun Seo Kaia Moana Tane Hemi Lani Keanu Nayeli Itzel Inti Siobhan Ciaran "
    "Eoin Aoife Niall Rhys Carys Gareth Morag Angus Fiona Callum Beatrice Edmund Florence Cedric Harriet Silas Winifred Percy Mabel Otis Pearl Dwayne Keisha Tyrone Latoya Brandon Ashley Kyle "
    "Megan Logan Paige Travis Heidi Jurgen Ute Klaus Sabine Wolfgang Anneliese Dieter Trudi Ruben Saskia Joost Marieke Pieter Willemijn Yael Avi Tamar Noam Shira Eitan Zsofia Laszlo Ildiko Gabor "
    "Vasile Ioana Radu Elina Dimitra Nikos Eleni Stavros Rosalind Tobias Barnaby Imogen Leopold Matilda Rufus Cordelia Jasper Ottilie"
).split()
LAST_NAMES = (
    "Okafor Adeyemi Nwosu Mensah Boateng Owusu Dlamini Nkosi Mokoena Diallo Traore Keita Haddad Nasser Khalil Mansour Aziz Rahimi Karimi Tehrani Yilmaz Demir Kaya Ozturk Sharma Patel Iyer Reddy "
    "Mukherjee Banerjee Kulkarni Gupta Nair Perera Silva Fernando Chen Wang Zhao Huang Lin Zhou Nguyen Tran Pham Le Suzuki Tanaka Watanabe Yamamoto Kobayashi Nakamura Kim Park Choi Jung Hwang "
    "Garcia Fernandez Morales Vargas Castillo Ortega Salazar Quispe Mamani Pereira Oliveira Carvalho Rossi Bianchi Ferrari Colombo Moretti Gallo Dubois Lefevre Moreau Girard Fontaine Lacroix "
    "Hansen Johansen Berg Lindqvist Nyström Eklund Virtanen Korhonen Laine Tamm Kask Ozols Kalnins Kazlauskas Kowalski Nowak Zielinski Wozniak Novak Svoboda Dvorak Horvat Petrovic Jovanovic "
    "Ivanova Volkov Sokolov Shevchenko Kovalenko Bondar Beridze Petrosyan O'Brien Gallagher Byrne Kavanagh Llewellyn Pritchard Bevan MacLeod Sinclair Drummond Buchanan Ashworth Whitaker "
    "Pemberton Fairfax Holloway Thornbury Wainwright Blackwood Carmichael Huxley Ramsbottom Featherstone Washington Jefferson Robinson Freeman Boone Delgado Whitehorse Begay Kealoha Tupou Ngata "
    "Müller Schneider Hoffmann Becker Vogel Krause Lehmann Baumann Zimmermann de Vries van Dijk Bakker Jansen Visser Goldberg Rosenthal Ben-David Katz Nagy Szabo Toth Popescu Ionescu "
    "Papadopoulos Georgiou Kostas Abrams Bell Cross Dunn Ellis Frost Grant Hale Irving Jarvis Knight Lowe Marsh North Osborne Pike Quinn Reed Stone Tate Underwood Vance Webb York"
).replace("de Vries", "de_Vries").replace("van Dijk", "van_Dijk").split()
LAST_NAMES = [name.replace("_", " ") for name in LAST_NAMES]
TOWNS = (
    "Aalborg Aberdeen Accra Adelaide Agra Alicante Almaty Amman Antwerp Arequipa Ashford Asmara Athens Augsburg Bamako Bangalore Basel Bath Beirut Belfast Bergen Bilbao Bologna Bordeaux Bristol "
    "Brno Bruges Busan Cairo Calais Cardiff Cartagena Chester Cork Cuenca Cusco Dakar Davos Delft Dresden Dublin Dundee Durban Eger Esbjerg Essen Exeter Fez Galway Gdansk Geneva Ghent Glasgow "
    "Granada Graz Haifa Hamburg Hanoi Harare Hobart Hull Innsbruck Izmir Jaipur Kandy Kazan Kigali Kobe Kyoto Lagos Lahore Lausanne Leeds Leiden Leipzig Lima Limerick Linz Lisbon Lublin Lucca "
    "Lusaka Lyon Madurai Malaga Malmo Maputo Maribor Medina Merida Montreal Mostar Mumbai Nagoya Nairobi Namur Nantes Naples Natal Norwich Novi_Sad Oaxaca Odense Oporto Oslo Oulu Oxford Padua "
    "Palermo Parma Pecs Penang Perth Pisa Plovdiv Porto Potsdam Poznan Quito Rabat Ravenna Reims Rennes Riga Rouen Salzburg Santiago Seville Siena Split Stavanger Suva Swansea Tallinn Tampere Tartu "
    "Tbilisi Toledo Trieste Tromso Tunis Turin Utrecht Uppsala Valencia Varna Verona Vilnius Wexford Windhoek Xalapa Yerevan York Zadar Zagreb Zanzibar Zurich"
).split()
TOWNS = [name.replace("_", " ") for name in TOWNS]
COUNTRIES = (
    "Norway Ghana Peru Vietnam Portugal Iceland Kenya Japan Chile Estonia Morocco Canada India Greece Malta Nepal Cuba Poland Egypt Finland Brazil Croatia Jordan Ireland Senegal Latvia Mongolia "
    "Bolivia Austria Uganda Slovenia Thailand Mexico Turkey Romania Namibia Belgium Georgia Cyprus Ecuador Denmark Tunisia Hungary Laos Panama Zambia Sweden Uruguay Armenia Botswana"
).split()
PROFESSIONS = (
    "beekeeper|carpenter|surgeon|tax adviser|bus driver|librarian|welder|botanist|court clerk|pilot|baker|translator|geologist|night guard|cellist|plumber|harbour master|school inspector|software tester|"
    "weaver|judge|photographer|dentist|surveyor|cook|midwife|locksmith|bookbinder|pharmacist|glazier|farmer|nurse|architect|bricklayer|violin maker|train driver|teacher of Latin|chemist|accountant|"
    "gardener|fisherman|watchmaker|lawyer|journalist|editor|stonemason|veterinarian|potter|engineer|electrician|butcher|barber|tailor|shepherd|postman|paramedic|firefighter|detective|interpreter|"
    "sculptor|dancer|choir director|stage designer|tour guide|ferry captain|crane operator|lorry driver|glassblower|goldsmith|roofer|chimney sweep|social worker|psychologist|physicist|archivist|curator|"
    "conductor|music teacher|sound engineer|radio presenter|novelist|poet|economist|statistician|data analyst|web designer|network engineer|receptionist|hotel manager|waiter|bartender|brewer|winemaker|"
    "cheesemaker|forester|ranger|diver|lifeguard|ski instructor|referee|football coach|swimming teacher|police officer|customs officer|diplomat|notary|bank clerk|insurance broker|estate agent|auctioneer|"
    "antique dealer|florist|hairdresser|optician|physiotherapist|radiologist|anaesthetist|lab technician|meteorologist|astronomer|marine biologist|archaeologist|historian|philosopher|priest|mechanic"
).split("|")
OBJECTS = (
    "lantern|violin|compass|telescope|kettle|bicycle|umbrella|suitcase|ladder|typewriter|globe|wallet|teapot|camera|radio|clock|painting|notebook|scarf|hammer|microscope|anchor|candle|mirror|whistle|map|"
    "key ring|toolbox|sewing machine|barometer|accordion|armchair|backpack|basket|bell|blanket|bookcase|bracelet|brooch|bucket|cabinet|calculator|canoe|carpet|chess set|chest|coin|cradle|cup|"
    "curtain|dagger|desk|diary|doll|drum|earring|easel|fan|fishing rod|flute|gramophone|guitar|hairbrush|harp|hat|helmet|hourglass|inkwell|iron|jacket|jug|lamp|letter opener|locket|loom|magnifying glass|"
    "medal|moneybox|necklace|needle case|oar|overcoat|paperweight|parcel|passport|pendant|pipe|pistol|plate|pocket knife|portrait|postcard|printer|puppet|purse|quilt|record player|ring|rocking horse|rope|"
    "rug|saddle|saw|sculpture|shawl|ship in a bottle|shovel|silver spoon|sled|snuffbox|statue|stool|sword|tablecloth|tent|thermos flask|thimble|torch|tray|trumpet|trunk|vase|walking stick|"
    "watch|watering can|wheelbarrow|wooden spoon|music box|spinning wheel|drawing|manuscript|prayer book|tea set|photo album|fountain pen|sundial|wicker chair|snow globe"
).split("|")
NOUNS = (
    "roof|garden|kitchen|fence|boiler|archive|website|budget|report|contract|garage|bridge|hall|library|ferry|newsletter|fountain|lift|playground|car park|heating|server|database|timetable|logo|"
    "alarm system|swimming pool|workshop|warehouse|canteen|orchard|greenhouse|well|harbour wall|clock tower|choir|exhibition|summer camp|bus route|footpath|cycle lane|recycling point|letterbox|stage|"
    "curtain|piano|lighting|sound system|staircase|balcony|cellar|attic|window frame|front door|water meter|septic tank|solar panel|wind turbine|pump station|sewer|dam|reservoir|lighthouse|jetty|"
    "ticket machine|vending machine|coffee machine|projector|photocopier|phone line|mailing list|password policy|backup plan|training course|first-aid kit|fire drill|emergency exit|insurance claim|"
    "tax return|grant application|audit|survey|questionnaire|price list|catalogue|brochure|calendar|membership list|seating plan|menu|wine list|guest book|wedding cake|school trip|concert|charity run|"
    "open day|sports field|changing room|tennis court|climbing wall|skate park|bandstand|war memorial|market stall|flower bed|hedge|lawn|compost heap|beehive|chicken coop|stable|barn|tractor|trailer|minibus"
).split("|")
VERBS = (
    "repair|replace|inspect|clean|paint|measure|photograph|insure|sell|rent out|test|move|close|reopen|extend|redesign|document|check|order|advertise|review|prepare|organise|book|cancel|postpone|"
    "dismantle|rebuild|restore|enlarge|shorten|translate|digitise|print|update|upgrade|label|decorate|guard|lock|unlock|survey|relocate|modernise|simplify|pay for|look after|report on|write about|plan"
).split("|")
PAST = {
    "rent out": "rented out", "pay for": "paid for", "look after": "looked after", "report on": "reported on", "write about": "written about", "sell": "sold", "rebuild": "rebuilt", "cancel": "cancelled",
    "label": "labelled", "plan": "planned", "move": "moved", "close": "closed", "insure": "insured", "replace": "replaced", "measure": "measured", "prepare": "prepared", "organise": "organised", "postpone": "postponed", "dismantle": "dismantled",
    "restore": "restored", "enlarge": "enlarged", "translate": "translated", "digitise": "digitised", "update": "updated", "upgrade": "upgraded", "decorate": "decorated", "relocate": "relocated",
    "modernise": "modernised", "advertise": "advertised", "simplify": "simplified",
}  # fmt: skip
ADJECTIVES = (
    "old|new|small|large|broken|heavy|light|narrow|wide|tall|round|square|rusty|polished|dusty|striped|painted|wooden|antique|modern|folding|portable|electric|hand-made|cracked|faded|golden|silver|"
    "precious|cheap|plain|ornate|quiet|noisy|northern|southern|eastern|western|upper|lower|second|third|last|first|main|spare|rear|front|left|right|temporary|permanent|public|private|winter|summer"
).split("|")
COLOURS = (
    "red blue green yellow black white grey orange purple brown silver golden crimson turquoise violet beige ivory maroon navy olive pink scarlet teal amber charcoal cream indigo lavender lilac magenta mint "
    "mustard peach rust salmon sand tan"
).split() + ["dark green", "pale blue", "light grey", "bright red", "off-white", "sky blue", "bottle green", "dark red"]
MATERIALS = (
    "leather|steel|oak|copper|glass|cotton|marble|aluminium|brass|granite|linen|bamboo|rubber|ceramic|wool|pine|concrete|paper|cast iron|walnut|cherry wood|silk|velvet|plastic|titanium|bronze|pewter|ivory|"
    "clay|porcelain|slate|sandstone|limestone|ebony|mahogany|beech|cork|felt|nylon|stainless steel|carbon fibre|recycled plastic|birch plywood|brick|straw|silver|tin|zinc|plaster|ash wood"
).split("|")
FOODS = (
    "lentils|cherries|walnuts|potatoes|goat cheese|mushrooms|rice|plums|carrots|flour|butter|onions|beans|honey|apples|oats|tomatoes|spinach|leeks|garlic|pears|peaches|raisins|almonds|hazelnuts|"
    "peanuts|shellfish|eggs|milk|barley|cabbage|beetroot|pumpkin|cucumber|olives|figs|dates|grapes|cream|yoghurt|smoked salmon|trout|herring|chicken|lamb|ham|lemon juice|ginger|cinnamon|saffron|basil|"
    "parsley|mustard|vinegar|sesame|chickpeas|red peppers|aubergine|courgettes|sweetcorn|noodles|blue cheese|dark chocolate|maple syrup|strawberries|rhubarb|quinces"
).split("|")
ANIMALS = (
    "heron|otter|mule|goat|parrot|hedgehog|tortoise|greyhound|raven|pony|goose|hamster|badger|cat|donkey|terrier|rabbit|guinea pig|ferret|owl|falcon|fox|beaver|seal|lynx|wolf|bear|deer|bat|bee-eater|"
    "kingfisher|stork|crane|cormorant|gecko|viper|newt|toad|trout|pike|eel|crab|spider|beetle|dragonfly|moth|collie|poodle|beagle|calf|lamb|llama|camel|peacock|pheasant|swan"
).split("|")
PLANTS = (
    "oak|birch|willow|rose|fern|orchid|tulip|lavender|ivy|moss|thistle|poppy|foxglove|gentian|juniper|hazel|maple|cedar|yew|elder|nettle|clover|sage|thyme|mint|heather|gorse|bluebell|primrose|aster"
).split("|")
SUBJECTS = (
    "geology|music|law|pharmacy|history|mathematics|architecture|nursing|chemistry|theology|economics|agriculture|physics|medicine|philosophy|linguistics|botany|zoology|astronomy|political science|"
    "journalism|art history|civil engineering|mechanical engineering|computer science|psychology|sociology|anthropology|classics|French literature|dentistry|veterinary medicine|forestry|statistics"
).split("|")
LANGUAGES = (
    "Finnish Basque Swahili Welsh Tamil Latvian Portuguese Korean Icelandic Greek Polish Zulu Hungarian Danish Dutch Arabic Farsi Hindi Urdu Bengali Thai Vietnamese Japanese Mandarin Cantonese Russian "
    "Ukrainian Czech Slovak Croatian Serbian Romanian Turkish Georgian Armenian Hebrew Amharic Yoruba Igbo Hausa Quechua Maori Samoan Catalan Breton Irish Gaelic Estonian Lithuanian Italian Spanish French German"
).split()
HOBBIES = (
    "fencing|chess|bird watching|pottery|rowing|astronomy|gardening|archery|baking|hiking|origami|sailing|knitting|photography|fishing|cycling|rock climbing|calligraphy|model railways|stamp collecting|"
    "playing the accordion|singing in a choir|kite flying|woodcarving|crossword puzzles|ballroom dancing|table tennis|beekeeping|brewing beer|watercolour painting|horse riding|ice skating|juggling|"
    "collecting old maps|repairing clocks|writing poems|running marathons|swimming in lakes|mushroom picking|amateur radio"
).split("|")
ILLNESSES = (
    "pneumonia|a heart attack|a stroke|diabetes|asthma|measles|migraine|high blood pressure|a broken wrist|a torn ligament|a slipped disc|appendicitis|tuberculosis|malaria|influenza|bronchitis|gout|"
    "anaemia|hay fever|arthritis|epilepsy|a kidney stone|a concussion|sciatica|chickenpox|shingles|gastritis|insomnia|a sprained ankle|tonsillitis"
).split("|")
MEDICINES_ENDINGS = "ol in ex ine ax il um ast ide one ene or".split()
GENRES = "novel|memoir|collection of short stories|cookbook|thriller|biography|children's book|play|book of poems|travel guide|textbook|detective story|fantasy novel|history of the town".split("|")
INSTRUMENTS = "violin|cello|flute|trumpet|piano|guitar|harp|clarinet|oboe|drums|accordion|trombone|saxophone|organ|double bass|banjo|bassoon|viola|lute|bagpipes".split("|")
SPORTS = "football|handball|volleyball|basketball|ice hockey|water polo|rugby|cricket|tennis|table tennis|rowing|swimming|athletics|cycling|fencing|judo|badminton|curling|golf|chess".split("|")
WEATHERS = (
    "heavy rain|light snow|thick fog|clear skies|strong wind|hail|thunderstorms|sunshine|drizzle|sleet|freezing rain|scattered showers|morning mist|gales|blizzards|a heat wave|black ice|overcast skies|"
    "sunny spells|gusts from the west"
).split("|")
CAUSES = (
    "a worn bearing|a software update|a broken seal|heavy rain|a power failure|a loose cable|a missing signature|a blocked filter|a wrong password|a strike of the drivers|a cracked pipe|"
    "an expired certificate|a full disk|a storm|a faulty sensor|a short circuit|a lack of staff|a burst water main|a fire in the kitchen|an unpaid bill|a gas leak|a flat battery|a fallen tree|a typing mistake|"
    "a misread label|a frozen valve|a dispute with the neighbours|an outbreak of flu|a shortage of steel|a late delivery|a landslide|a flood in the cellar|a torn belt|a lost key|bad lighting|poor maintenance|"
    "low demand|high fuel prices|a change in the law|a court order|rising costs|a burnt fuse|a jammed door|a wasps' nest|a broken window|an error in the map|a leaking tank|the icy road|a stray dog|metal fatigue"
).split("|")
REASON_CLAUSES = (
    "the {noun} was too small|the {noun} had to be closed|nobody had paid for the {noun}|the {noun} was in poor repair|the {adj} {object} had gone missing|{Person} had fallen ill|the road to {place} was flooded|"
    "there was no money for the {noun}|the {noun} did not meet the rules|the key to the {noun} was lost|the neighbours complained about the {noun}|it was cheaper than the {noun}|{Person} had asked for it|"
    "the last train to {place} had left|the {adj} {object} was too heavy|the old {noun} leaked|the {noun} would not be ready in time|the {animal} had frightened the children|the price of {food} had doubled|"
    "the doctor advised against it|the {noun} stood empty for years|visitors kept asking for the {noun}|the power was cut off at {time}|the supplier in {place} went bankrupt|the {noun} made too much noise|"
    "the permit for the {noun} had run out|{Person} refused to sign|the {object} no longer worked|the water was too cold"
).split("|")
PURPOSES = (
    "to save money|to protect the {noun}|to attract visitors|to make room for the {noun}|to keep out the {animal}|to learn {language}|to be closer to {place}|to pay for the {noun}|to test the {noun}|"
    "to celebrate the opening of the {noun}|to keep the {food} fresh|to reduce noise|to help beginners|to store {food}|to measure the wind|to find the lost {object}|to visit {Person}|to study {subject}|"
    "to raise money for the {noun}|to warn ships|to dry herbs|to store water for the dry months|to train young people|to cut waste by half|to avoid queues|to record the temperature|to honour {Person}|"
    "to prevent accidents|to comply with the new rules|to replace the {adj} {noun}"
).split("|")
METHODS = (
    "by bicycle|by post|by hand|with a wire brush|with warm water and soap|by counting the rings|with a laser|by night train|by comparing old maps|with a borrowed {object}|by telephone|on foot|by drawing lots|"
    "with a show of hands|by radio|with salt and vinegar|by measuring the shadow|with a {material} hook|by asking the neighbours|by boat|with a pair of tweezers|by heating it to {degrees}|by e-mail|"
    "with a spare key|through the kitchen window|by reading the meter|with a rope and two ladders|by smoke signals|by sieving the soil"
).split("|")
CONDITIONS = (
    "the {noun} is insured|the weather is dry|a deposit of {amount} is paid|both parties agree in writing|the {noun} is returned clean|a parent signs the form|at least {few} people take part|the bill is paid within {duration}|"
    "the damage is reported within {duration}|the temperature stays below {degrees}|a member of staff is present|the original receipt is shown|the {noun} is not in use|{Person} gives written consent|"
    "the helmet is worn|the request arrives before {time}|the animal is kept on a lead|no alcohol is served|the {object} is kept in its case|the applicant speaks {language}"
).split("|")
PLACES_IN = (
    "under the stairs|in the attic|behind the boiler|on the top shelf|in the garden shed|next to the piano|inside the blue cupboard|in the cellar|beneath the floorboards|in the glove box|on the window sill|"
    "in the second drawer|at the back of the garage|beside the lighthouse|in the old chapel|behind the curtain|in the church tower|on the kitchen table|under the oak tree|in a hollow log|inside the piano|"
    "between two mattresses|behind a loose brick|in the left pocket of the coat|on the roof of the barn|in the boot of the car|at the bottom of the well|under the doormat|in the biscuit tin|on the mantelpiece|"
    "in the staff room|in the freezer|in the waiting room|behind the counter|in the hotel safe|on the night train|in a locker at the station|in the rowing boat|under the bridge|in the bakery|at the dentist's|"
    "in the herb garden|on the third floor|in the reading room|next to the fire extinguisher|in the van|beside the fish pond|in the laundry basket|in the bell tower|at the post office"
).split("|")
OPINIONS = (
    "we must never sell the {noun}|the {noun} needs a new coat of paint|it was the best {noun} I have ever seen|nobody uses the {noun} any more|the {noun} should be free for children|without the {noun} the village will die|"
    "the {noun} is worth every penny|I would rather have a {adj} {noun}|the {noun} is far too expensive|we can finish the {noun} by {month}|it will take years to repair the {noun}|the {noun} smells of {food}|"
    "my children love the {noun}|the {noun} was a mistake from the start|I am proud of the {noun}|there is no hurry with the {noun}|the {noun} is safer than people think|we ought to ask {Person} first|"
    "the plan looks good on paper only|I had expected more from the {noun}|let us wait until {month}|the money would be better spent on the {noun2}|a {adj} {noun} would do just as well|it reminds me of {place}|"
    "the first version was better|I do not trust the figures|the colour is hideous|this is only the beginning|the neighbours will get used to it|we have learned our lesson"
).split("|")
ARTICLE_TITLE_NOUNS = "Winter River Garden House Sea Night Stone Salt Bread Train Mirror Island Forest Snow Shadow Letter Bridge Clock Bird Fire Window Orchard Harbour Silence Thread Lamp Wolf Moon Tide Road".split()
ARTICLE_TITLE_ADJECTIVES = "Silent Last Broken Golden Long Empty Hidden Bitter Distant Burning Blue Second Forgotten Quiet Crooked Frozen Paper Glass Wild Borrowed".split()
ORGANISATIONS = (
    "the {Place} Historical Society|the University of {Place}|{Place} Town Council|the {Place} Gazette|the Ministry of {Ministry}|the {Word} Foundation|the {Last} Institute|St {First}'s Hospital|{Place} Rowing Club|"
    "the {Place} Chamber of Commerce|the Museum of {Place}|{Word} Airlines|{Word} Bank|the {Place} Fire Brigade|the Friends of {Place}|{Last} & {Last}|{Word} Trust|the Royal {Word} Society|{Place} Primary School|"
    "{Last} College|the {Word} Orchestra|the Association of {Place} Farmers|{Word} Records|{Word} Publishing|the {Place} Water Board"
).split("|")
MINISTRIES = "Health|Transport|Education|Fisheries|Culture|Labour|Finance|the Interior|Agriculture|Energy|Housing|Justice|Trade".split("|")
UNITS = "kilograms|metres|litres|kilometres|pages|watts|miles|tonnes|grams|centimetres|millimetres|hectares|square metres|cubic metres|inches|feet|gallons|pounds|kWh|megabytes|gigabytes|volts|kg|km|cm|mm|m|l|ml|mg".split("|")
FILLERS = (
    "Nobody had expected anything else.|The weather was fine that day.|More will be said below.|This was agreed some time ago.|All of this is on record.|The rest needs no comment.|There were no objections.|"
    "Some details are still open.|A copy was sent to everyone.|It has been so for a long while.|The neighbours talked about it for weeks.|Further questions can wait.|That is how the matter stands.|"
    "Nothing else was noted.|The file was closed.|We shall come back to this later.|Opinions differ on whether that was wise.|It took longer than planned.|The coffee was cold by then.|Not everyone was pleased.|"
    "The figures have been checked twice.|Photographs are kept in the archive.|As so often, the truth is simpler.|It rained for most of the afternoon.|A short break followed.|Readers wrote in with their own stories.|"
    "The room was full to the last seat.|For the time being nothing will change.|The old files are hard to read.|Help is always welcome.|Everyone did what they could.|The dog slept through all of it.|"
    "Such things take time.|An earlier draft said otherwise.|The rules are the same for all.|Most people have forgotten why.|Little is known about the years before.|The rest is a matter of taste.|"
    "One can only guess what went on behind closed doors.|The list is not complete.|In the end common sense won.|It was a long day for all of us.|Work went on as usual.|The details are in the appendix.|"
    "Further copies can be had from the office.|No one was hurt.|The door stayed open all night.|Spring came late that year.|There is still much to do.|We thank everyone who helped."
).split("|")
