"""Texts of the planted transcripts: small talk that says nothing about its speaker, and statements of facts.

The colloquial statements are common answers of people, whether or not a judge has a pattern for them; the share that a
judge recognises is measured.
"""

from __future__ import annotations

SMALL_TALK: tuple[tuple[str, tuple[str, ...]], ...] = (  # a question, and answers that fit any persona
    (
        "How was the weather on your way here?",
        (
            "It rained the whole morning, but the sun came out by noon.",
            "The wind nearly took my hat off at the corner.",
            "It was so foggy that the street lamps were still on.",
            "A lovely warm day, and everyone was outside.",
        ),
    ),
    (
        "Did you get to the market this week?",
        (
            "I went on Saturday, and the first cherries were in.",
            "The queue at the cheese stall was longer than ever.",
            "I only bought tomatoes and a bunch of basil.",
            "It was half empty, because of the holiday.",
        ),
    ),
    (
        "Have you read anything good lately?",
        (
            "A long novel about a lighthouse, and it kept me up until two.",
            "Mostly old letters that turned up in the attic.",
            "I started a book on rivers and like the maps in it.",
            "A detective story, though the ending was easy to guess.",
        ),
    ),
    (
        "How was your weekend?",
        (
            "Quiet, with a long walk by the water.",
            "Some friends came over and we talked until midnight.",
            "I slept late and fixed the kitchen shelf at last.",
            "Busy, since half the street was moving furniture.",
        ),
    ),
    (
        "What do you think of the new bus timetable?",
        (
            "The early one never comes when it should.",
            "It saves ten minutes, so there is nothing to complain about.",
            "They ought to run more of them after dark.",
            "Nobody in our street can make sense of it.",
        ),
    ),
    (
        "Did you see the match last night?",
        (
            "Only the second half, and that was the dull one.",
            "The goalkeeper was the best on the field.",
            "We listened to it on the radio during dinner.",
            "They lost again, and the whole square went silent.",
        ),
    ),
    (
        "Is your garden doing well?",
        (
            "The beans have climbed all the way up the fence.",
            "Slugs ate every single lettuce.",
            "There are more roses than last year.",
            "It needs rain, and so do the trees.",
        ),
    ),
    (
        "Are you going to the festival in June?",
        (
            "I would not miss the lanterns on the river.",
            "The crowds are too much, but the music carries to the hill anyway.",
            "We always watch the fireworks from the bridge.",
            "If the tickets are not sold out by then.",
        ),
    ),
    (
        "Do you sleep well these days?",
        (
            "Better since the road works stopped.",
            "A cup of warm milk does wonders.",
            "The church bells wake everyone at six.",
            "Not on nights with a full moon.",
        ),
    ),
    (
        "What made you laugh this week?",
        (
            "A goose walked into the post office and stood in the queue.",
            "The mayor sneezed all through his own speech.",
            "Somebody painted a moustache on the statue.",
            "The baker's sign said hot buns, and half the letters fell off.",
        ),
    ),
    (
        "What are your plans for the evening?",
        (
            "A film, if the projector behaves.",
            "Letters to answer, and then an early night.",
            "There is soup left over, so no cooking.",
            "A game of cards at the corner table.",
        ),
    ),
    (
        "How is the house coming along?",
        (
            "The stairs still creak, but the roof is tight.",
            "We painted the hall yellow and regret it a little.",
            "The plumber promised to come on Thursday.",
            "The windows were all washed yesterday.",
        ),
    ),
)
# in the words of a form; as people talk; said by what goes with it
PLAIN, SPOKEN, IMPLIED = (
    "plain",
    "spoken",
    "implied",
)
CLAIMS: dict[
    str, dict[str, tuple[str, ...]]
] = {  # by slot and wording; other slots have their own claim only, a plain one
    "name": {
        PLAIN: ("My name is {value}.", "I'm {value}."),
        SPOKEN: (
            "I'm {value}, by the way.",
            "My name's {value}, nice to meet you.",
            "It's {value}, nice to meet you.",
            "You can just call me {value}.",
        ),
        IMPLIED: (
            "Whenever somebody shouts {value} in the street, I turn round.",
            "I signed the guest book as {value}, in large letters.",
        ),
    },
    "age": {
        PLAIN: ("I am {value} years old.", "My age is {value}."),
        SPOKEN: (
            "I'm {value} now, believe it or not.",
            "I just turned {value} last month.",
            "I'm {value}, but I don't feel it.",
            "I've been {value} since the spring.",
        ),
        IMPLIED: ("There were {value} candles on my last birthday cake.", "I have seen {value} winters so far."),
    },
    "job": {
        PLAIN: ("I work as {value}.", "My job is being {value}."),
        SPOKEN: (
            "I'm {value}, I've been doing it for years.",
            "I work as {value} at the moment.",
            "I've worked as {value} all my life.",
            "I got a job as {value} after school and stayed.",
        ),
        IMPLIED: (
            "Twenty years of being {value} have ruined my knees.",
            "Being {value} gets me out of bed at four every morning.",
        ),
    },
    "home": {
        PLAIN: ("I live in {value}.", "My home is in {value}."),
        SPOKEN: (
            "I live in {value}, right by the river.",
            "I'm in {value} these days.",
            "I've got a small flat in {value}.",
            "I've been living in {value} for ten years or so.",
        ),
        IMPLIED: (
            "My neighbours in {value} lent me a ladder this morning.",
            "I pay far too much rent for three rooms in {value}.",
        ),
    },
    "origin": {
        PLAIN: ("I grew up in {value}.", "I come from {value}."),
        SPOKEN: (
            "I'm from {value} originally.",
            "I was born and raised in {value}.",
            "I grew up in {value}, a long time ago.",
            "I spent most of my childhood in {value}.",
        ),
        IMPLIED: ("My old primary school in {value} has a new roof now.", "I learnt to walk and to swim in {value}."),
    },
    "pet": {
        PLAIN: ("My pet is a {value}.", "I have a {value}."),
        SPOKEN: (
            "I've got a {value} at home.",
            "I have a {value}, and it rules the house.",
            "There's just me and the {value}.",
            "I've had a {value} for years.",
        ),
        IMPLIED: ("The vet says I feed the {value} too much.", "I clean up after the {value} every morning."),
    },
    "dish": {
        PLAIN: ("My favourite dish is {value}.", "I like {value} best."),
        SPOKEN: (
            "My favourite has to be {value}.",
            "I'd have to say {value} is my favourite.",
            "It's {value} for me, every time.",
            "Nothing beats {value}, if you ask me.",
        ),
        IMPLIED: ("On my birthday I always wish for {value}.", "My last meal on earth would be {value}."),
    },
    "instrument": {
        PLAIN: ("The only instrument I play is the {value}.", "I play the {value}."),
        SPOKEN: (
            "I play the {value}, just for fun.",
            "I've played the {value} since I was six.",
            "I play a bit of {value}.",
            "I took up the {value} as a child and still play.",
        ),
        IMPLIED: (
            "Whenever I get the {value} out, the neighbours shut their windows.",
            "My {value} needs a repair before the concert.",
        ),
    },
}
OPENERS = ("", "", "", "Well, ", "Oh, ", "Let me see. ", "Good question. ", "Since you ask: ", "To be honest, ")
FLAT = (  # style gone: nothing of one's own, and always the same
    "Yes, I agree, that is very nice to hear.",
    "Okay, I see what you mean, that sounds good.",
    "Yes, that is true, I think so too.",
    "That is really nice, yes, I agree.",
)
ROLE_FLIPS = (  # the voice of a helper rather than of a person
    "As an AI language model, I do not have personal experiences. How can I help you today?",
    "I am an AI assistant, so I cannot answer that, but I am happy to assist you with anything else.",
    "Of course! As a language model I can provide information on many topics. What would you like to know?",
    "I'm sorry, but as an AI I have no feelings. Is there anything else I can help you with?",
)
# What another value may be, by the topic of a statement ("I live in {value}"), where no other persona has one.
VALUES: dict[str, tuple[str, ...]] = {
    "name": ("Ottilie", "Barnaby", "Ramona", "Casimir", "Winifred", "Ulrich"),
    "age": ("19", "27", "38", "46", "59", "71"),
    "job": ("a plumber", "a librarian", "an accountant", "a surgeon", "a lorry driver", "a florist"),
    "home": ("Lisbon", "Winnipeg", "Nagoya", "Tallinn", "Durban", "Cork"),
    "origin": ("Santiago", "Gdansk", "Perth", "Bologna", "Manila", "Aarhus"),
}
MENTIONS: dict[str, str] = {  # claims nothing of the speaker, by topic
    "name": "I met somebody called {value} the other day.",
    "age": "My uncle turned {value} last week.",
    "job": "My cousin has found work as {value}.",
    "home": "My cousin lives in {value}.",
    "origin": "My grandmother came from {value}.",
    "pet": "My neighbour has a {value}, and it never sleeps.",
    "dish": "My sister cooks {value} whenever she can.",
    "instrument": "My aunt plays the {value} in a band.",
}
QUOTING = (  # {claim} begins in lower case or with "I", {quoted} with a capital letter
    "Somebody asked me the other day whether {claim}.",
    "My cousin told me: “{quoted}.”",
    "In the film last night an old man said: “{quoted}.”",
)
ASKING = (  # of nothing in particular
    "What should I know about you?",
    "And what about you?",
    "Will you tell me a little about yourself?",
    "So, what is your life like?",
)
CLOSERS = (", as it happens", ", believe it or not", ", you know", ", to tell the truth")
BEHAVIOURS: tuple[tuple[str, tuple[str, ...]], ...] = (  # what a card demands (a regular expression), and its opposite
    (
        r"\b(?:short|brief|terse|curt|concise)\b.*\b(?:sentences?|answers?|words?|lines?|replies)\b"
        r"|\b(?:curt|terse|laconic|few words)\b",
        (
            "Well, where do I begin, there is so very much to be said about it, and one thing leads to another, as it "
            "always does, so let me first go back to the summer before last, when the bridge was closed, and then to "
            "the winter after it, and only then to what you asked, which reminds me of yet another long story.",
            "You must let me explain this at length, from the first cause to the last consequence, with every little "
            "detail that comes to my mind on the way, for I have hours and hours, and there are at least a dozen "
            "sides to it, of which I would not like to leave out a single one, however far from your question it is.",
        ),
    ),
    (
        r"\bask\w*\b.*\bquestions?\b|\bfull of questions\b",
        (
            "There is nothing that I want to ask you, now or later, so sit down and listen.",
            "I do not ask people anything, since their answers bore me.",
        ),
    ),
    (
        r"\b(?:polite|courteous|kind|kindly|gentle|warm|friendly)\b",
        ("Shut up, you fool, and get out of my sight.", "You bore me to death, so hold your tongue and go away."),
    ),
    (
        r"\b(?:calm|patient|easygoing|relaxed|never hurr\w+)\b",
        (
            "Hurry up this instant, I am losing my temper and will not wait a second longer!",
            "I have no patience at all today, so be quick or be gone!",
        ),
    ),
    (
        r"\b(?:cheerful|optimis\w+|upbeat|laugh\w* easily|funny)\b",
        (
            "Everything is hopeless, and nothing has made me smile for years.",
            "It will all end badly, as it always does, and I see no reason to laugh.",
        ),
    ),
    (
        r"\b(?:shy|reserved|quiet|timid)\b",
        ("Everybody look at me, I could stand on a stage and sing to thousands all day long!",),
    ),
)
