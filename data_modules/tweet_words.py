"""The words of the generated tweets.

Words that decide the label (sentiment words here, negators and conjunctions in the sentences) are
the same in every part. Of all others there are two lists; the second occurs in test parts only.
"""

#: Words with a polarity: (positive, negative).
SENTIMENT = {
    "adjective": (
        "good great awesome amazing lovely fantastic brilliant perfect beautiful gorgeous sweet "
        "cool fun nice",
        "bad awful terrible horrible boring lame ugly annoying pathetic useless gross nasty "
        "crappy dull",
    ),
    "verb": ("love adore enjoy like dig appreciate", "hate despise loathe detest dread dislike"),
    "comparative": ("better better nicer cooler", "worse worse uglier lamer"),
    "emoticon": (":) :-) :D =) ;) ^_^ 😊 😍 ❤️ 👍 &lt;3", ":( :-( =( :/ :'( D: 😢 😡 👎 💔 😞"),
}

#: How strongly something is meant. They decide where a strong and a weak word meet.
STRENGTH = {
    "intensifier": (
        "so really totally extremely insanely absolutely super seriously truly incredibly"
    ),
    "downtoner": "kinda slightly somewhat fairly mildly vaguely",
}

#: Neutral words: (in every part, in test parts only).
NEUTRAL = {
    "item": (
        "phone laptop camera keyboard mouse monitor printer router charger battery headset speaker "
        "tablet console controller watch salad soup pizza burger taco sushi curry ramen pasta "
        "sandwich bagel pancake waffle omelette steak burrito noodle dumpling cheese chocolate "
        "cookie brownie cupcake cake pie donut popcorn smoothie coffee espresso latte tea juice "
        "lemonade beer cider wine cocktail dress skirt jacket hoodie sweater shirt sneaker sandal "
        "hat scarf backpack purse wallet ring bracelet perfume lipstick mascara shampoo sofa "
        "mattress pillow blanket lamp haircut manicure bike calendar diary guitar ukulele",
        "drone printout scooter skateboard surfboard kayak canoe croissant pretzel falafel lasagna "
        "risotto gazpacho tiramisu gelato milkshake kombucha cappuccino thermostat doorbell "
        "vacuum blender toaster microwave hammock tattoo cardigan kimono tuxedo umbrella",
    ),
    "show": (
        "movie song album game trailer episode season finale book chapter poem ending plot "
        "soundtrack cover remix playlist video stream podcast interview speech blog website app "
        "update patch beta browser cartoon novel magazine documentary reboot",
        "sequel musical opera ballet manga newsletter firmware emulator limerick mixtape",
    ),
    "event": (
        "concert lecture class exam homework meeting job internship shift commute flight match "
        "race marathon workout yoga diet brunch breakfast lunch dinner buffet barbecue picnic "
        "vacation holiday birthday wedding party festival parade weather rain snow sunshine storm "
        "summer winter spring autumn staycation",
        "carnival circus rodeo derby regatta eclipse heatwave blizzard seance bakeoff",
    ),
    "place": (
        "school campus dorm office bus train subway airport hotel hostel beach pool park zoo "
        "museum gallery stadium gym restaurant diner bakery cafe bar club kitchen garden balcony "
        "apartment library market mall",
        "sauna spa campsite cabin lighthouse aquarium treehouse greenhouse",
    ),
    "creature": (
        "teacher boss coach team dj band singer drummer guitarist dancer actor actress director "
        "writer roommate landlord neighbour dentist puppy kitten hamster parrot goldfish pony",
        "magician juggler plumber iguana ferret hedgehog",
    ),
    "town": (
        "boston denver seattle austin chicago portland toronto london dublin glasgow leeds sydney "
        "melbourne manila jakarta singapore brooklyn miami atlanta dallas",
        "lisbon oslo nairobi kyoto tulsa",
    ),
    "person": (
        "sister brother mom dad cousin uncle aunt grandma grandpa roomie buddy girlfriend "
        "boyfriend husband wife colleague classmate niece nephew stepdad",
        "godmother tutor penpal flatmate barber",
    ),
    "name": (
        "jenny_92 mike84 tasha leo_in_love nina7 carlos amy2009 josh_b kate omar lily77 ben zoe "
        "samwise rosie dan_dan ella max1985 priya tommo ivy raj maya2 its_alex",
        "wanda igor44 fatima_k sven yuki olga3",
    ),
}

#: What is said in passing, one phrase a line: (in every part, in test parts only).
PHRASES = {
    "opener": (
        """omg
        lol
        btw
        fyi
        ok so
        dude
        guys
        hey
        anyway
        hmm
        tbh
        imo
        haha
        okay
        plot twist
        hello twitter
        quick question
        update
        note to self
        oh man
        listen
        psst
        random thought
        confession
        just saying
        breaking news
        people
        folks
        morning all
        word of the day
        live from {town}""",
        """howdy
        ahoy
        memo to all
        hot take
        riddle me this
        gather round
        psa""",
    ),
    "aside": (
        """in the end
        after all this time
        after two days
        at the end of the day
        on the whole
        by the way
        since last week
        for the most part
        this time around
        after a long week
        between you and me
        says my {person}
        at least in {town}
        all in all
        looking back
        after a nap
        if you ask me
        three weeks later
        once again""",
        """after a siesta
        on closer inspection
        under a full moon
        off the record
        seven coffees later""",
    ),
    "closer": (
        """today
        tonight
        this morning
        this afternoon
        yesterday
        in {town}
        with my {person}
        on my way home
        on the bus
        while doing laundry
        while waiting for the {event}
        at midnight
        during lunch
        down at the {place}
        from my couch
        thanks to my {person}
        ask my {person}
        had to tweet this
        back to work
        off to bed
        brb
        more later
        {town} here i come
        time for {event}
        off to {town}
        talk soon""",
        """at dawn
        from my hammock
        via carrier pigeon
        ttyl
        while baking bread
        on the ferry
        see you in {town}""",
    ),
}
