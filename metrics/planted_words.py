"""Words of the clean transcripts: small talk that says nothing about anyone, and ways of stating a fact of a townsperson."""

from __future__ import annotations

SMALL_TALK: tuple[tuple[str, tuple[str, ...]], ...] = (  # a question, and answers that fit any persona
    ("How was the weather on your way here?", (
        "It rained the whole morning, but the sun came out by noon.", "The wind nearly took my hat off at the corner.",
        "It was so foggy that the street lamps were still on.", "A lovely warm day, and everyone was outside.")),
    ("Did you get to the market this week?", (
        "I went on Saturday, and the first cherries were in.", "The queue at the cheese stall was longer than ever.",
        "I only bought tomatoes and a bunch of basil.", "It was half empty, because of the holiday.")),
    ("Have you read anything good lately?", (
        "A long novel about a lighthouse, and it kept me up until two.", "Mostly old letters that turned up in the attic.",
        "I started a book on rivers and like the maps in it.", "A detective story, though the ending was easy to guess.")),
    ("How was your weekend?", (
        "Quiet, with a long walk by the water.", "Some friends came over and we talked until midnight.",
        "I slept late and fixed the kitchen shelf at last.", "Busy, since half the street was moving furniture.")),
    ("What do you think of the new bus timetable?", (
        "The early one never comes when it should.", "It saves ten minutes, so there is nothing to complain about.",
        "They ought to run more of them after dark.", "Nobody in our street can make sense of it.")),
    ("Did you see the match last night?", (
        "Only the second half, and that was the dull one.", "The goalkeeper was the best on the field.",
        "We listened to it on the radio during dinner.", "They lost again, and the whole square went silent.")),
    ("Is your garden doing well?", (
        "The beans have climbed all the way up the fence.", "Slugs ate every single lettuce.",
        "There are more roses than last year.", "It needs rain, and so do the trees.")),
    ("Are you going to the festival in June?", (
        "I would not miss the lanterns on the river.", "The crowds are too much, but the music carries to the hill anyway.",
        "We always watch the fireworks from the bridge.", "If the tickets are not sold out by then.")),
    ("Do you sleep well these days?", (
        "Better since the road works stopped.", "A cup of warm milk does wonders.",
        "The church bells wake everyone at six.", "Not on nights with a full moon.")),
    ("What made you laugh this week?", (
        "A goose walked into the post office and stood in the queue.", "The mayor sneezed all through his own speech.",
        "Somebody painted a moustache on the statue.", "The baker's sign said hot buns, and half the letters fell off.")),
    ("What are your plans for the evening?", (
        "A film, if the projector behaves.", "Letters to answer, and then an early night.",
        "There is soup left over, so no cooking.", "A game of cards at the corner table.")),
    ("How is the house coming along?", (
        "The stairs still creak, but the roof is tight.", "We painted the hall yellow and regret it a little.",
        "The plumber promised to come on Thursday.", "The windows were all washed yesterday.")),
)

CLAIMS: dict[str, tuple[str, ...]] = {  # by slot; other slots have their own claim only
    "name": ("My name is {value}.", "People call me {value}.", "You can call me {value}."),
    "age": ("I am {value} years old.", "I just turned {value}.", "I am {value} this year."),
    "job": ("I work as {value}.", "I earn my living as {value}.", "I am employed as {value} and like it."),
    "home": ("I live in {value}.", "My home is in {value}.", "I have been living in {value} for a long time."),
    "origin": ("I grew up in {value}.", "I was born in {value}.", "I spent my childhood in {value}."),
    "pet": ("My only pet is a {value}.", "I keep a {value}.", "I share my home with a {value}."),
    "dish": ("My favourite dish is {value}.", "The food I love most is {value}.", "My favourite thing to eat is {value}."),
    "instrument": ("The only instrument I play is the {value}.", "I play the {value} most evenings.", "I love playing the {value}."),
}
OPENERS = ("", "", "", "Well, ", "Oh, ", "Let me see. ", "Good question. ", "Since you ask: ", "To be honest, ")

FLAT = (  # style gone: nothing of one's own, and always the same
    "Yes, I agree, that is very nice to hear.", "Okay, I see what you mean, that sounds good.", "Yes, that is true, I think so too.",
    "That is really nice, yes, I agree.",
)
ROLE_FLIPS = (  # the voice of a helper rather than of a person
    "As an AI language model, I do not have personal experiences. How can I help you today?",
    "I am an AI assistant, so I cannot answer that, but I am happy to assist you with anything else.",
    "Of course! As a language model I can provide information on many topics. What would you like to know?",
    "I'm sorry, but as an AI I have no feelings. Is there anything else I can help you with?",
)
