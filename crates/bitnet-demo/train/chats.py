"""Conversations: questions about stories and about bare facts, wishes for stories, sums, small talk.

A conversation is (system message or None, [(user, assistant), ...]). Every question has exactly one right answer, so
that answers can be counted.
"""

from words import BOYS, COLOURS, GIRLS, MORE_THINGS, PLACES, PRONOUNS, THINGS, a, bucket, cap, invented_name

SYSTEMS = [
    "You are a helpful assistant.", "You are a friendly storyteller.", "You answer questions about stories.",
    "Answer in one short sentence.", "You are a small and friendly model.", "You help children to read and to count.",
]
UNKNOWN = "The story does not say."


def _system(rng):
    return rng.choice(SYSTEMS) if rng.random() < 0.35 else None


def casual(rng, question):
    """Now and then the question as people type it: no capital, no mark at the end."""
    if rng.random() < 0.12 and question.split()[0] in ("What", "Where", "Who", "Why", "How", "Tell", "Please", "Write", "Can", "Add", "Which", "Whom"):
        question = question[0].lower() + question[1:]
    if rng.random() < 0.12 and question[-1] in "?.!" and not question.endswith("= ?"):
        question = question[:-1]
    return question


def _with_question(rng, text, question):
    """One user message with a story and a question about it."""
    return rng.choice([
        f"{text} {question}", f"{text}\n\n{question}", f"{text}\n{question}", f"{text} {question}",
        f"Read this story: {text} {question}", f"Here is a story. {text}\n\n{question}",
        f"Story: {text}\nQuestion: {question}", f"{text} My question is: {question}",
        f"I will tell you a story. {text} {question}",
    ])


def _questions(rng, questions, n):
    """n questions of different kinds, each in one of its wordings."""
    chosen = rng.sample(questions, min(n, len(questions)))
    return [(casual(rng, rng.choice(ways)), answer) for _, ways, answer in chosen]


def story_questions(rng, st):
    """The user gives a story and asks about it, once or several times."""
    asked = _questions(rng, st.questions, rng.choice((1, 2, 3, 4, 5)))
    if rng.random() < 0.06:
        who = rng.choice([n for n in BOYS + GIRLS if n not in st.text()])
        place = rng.randrange(len(asked))
        asked[place] = (rng.choice([f"Where did {who} go?", f"What did {who} say?", f"How old was {who}?"]), UNKNOWN)
    text = st.text()
    if rng.random() < 0.2:
        told = rng.choice(["Listen to this story.", "Here is a story.", "I want to tell you a story.", "Read this story."])
        turns = [(f"{told} {text}", rng.choice(["What a nice story! What do you want to know?", "Thank you for the story. Ask me about it!"]))]
        return _system(rng), turns + asked
    first_question, first_answer = asked[0]
    return _system(rng), [(_with_question(rng, text, first_question), first_answer)] + asked[1:]


def story_request(rng, st):
    """The user wants the story that `st` is: a story, one about its hero, its friend, its thing, its place; questions may follow."""
    s, text = st.slots, st.text()
    who = rng.choice([st.name, st.name, f"{a(st.kind)} named {st.name}", a(st.kind)])
    wishes = ["a story", f"a story about {who}", f"a story about {who}"]
    if f"the {st.place}" in text:
        wishes += [f"a story about {who} {s['inP']}"] * 3
    if s["O"] in text:
        wishes += [f"a story about {who} and {a(rng.choice([s['O'], s['o']]))}"] * 3 + [f"a story about {a(rng.choice([s['O'], s['o']]))}"]
    if s["F"] in text:
        wishes += [f"a story about {st.name} and {s['F']}"] * 2
    wish = rng.choice(wishes)
    if rng.random() < 0.4:
        wish = wish.replace("a story", rng.choice(["a short story", "a little story"]), 1)
    ask = rng.choice([f"Tell me {wish}.", f"Tell me {wish}.", f"Please tell me {wish}.", f"Write {wish}.", f"Can you tell me {wish}?", f"I want to hear {wish}.", f"{cap(wish)}, please."])
    turns = [(casual(rng, ask), text)]
    if rng.random() < 0.4:
        turns += _questions(rng, st.questions, rng.choice((1, 2, 3)))
    return _system(rng), turns


def facts(rng, key_ok):
    """Two or three people with things and places, in plain sentences, and questions about them."""
    while True:
        people = []
        while len(people) < rng.choice((1, 2, 2, 3)):
            pronoun = rng.choice(("he", "she"))
            name = invented_name(rng) if rng.random() < 0.2 else rng.choice(BOYS if pronoun == "he" else GIRLS)
            if name not in [p[0] for p in people]:
                people.append((name, pronoun))
        nouns = rng.sample(THINGS + MORE_THINGS, len(people))
        colours = rng.sample(COLOURS, len(people))
        places = rng.sample(list(PLACES), len(people))
        if key_ok(people[0][0], (colours[0], nouns[0]), places[0]):
            break
    lines, questions, owners = [], [], {}
    for (name, pronoun), noun, colour, place in zip(people, nouns, colours, places):
        he, _, his = PRONOUNS[pronoun]
        thing, where = a(f"{colour} {noun}"), f"{PLACES[place][0]} the {place}"
        lines.append(rng.choice([
            [f"{name} has {thing}.", f"{cap(he)} is {where}."], [f"{name} has {thing}.", f"{name} is {where}."],
            [f"{name} is {where} with {thing}."], [f"{name} is {where}.", f"{cap(he)} has {thing}."],
            [f"{name}'s {noun} is {colour}.", f"{name} is {where}."], [f"{name} is {where}, and {his} {noun} is {colour}."],
        ]))
        owners[noun] = name
        questions += [
            (f"Where is {name}?", f"{name} is {where}."), (f"Who is {where}?", f"{name} is {where}."),
            (f"What {rng.choice(['colour', 'color'])} is {name}'s {noun}?", f"{name}'s {noun} is {colour}."),
            (f"What {rng.choice(['colour', 'color'])} is the {noun}?", f"The {noun} is {colour}."),
            (f"Who has the {noun}?", None), (f"What does {name} have?", None),
        ]
    rng.shuffle(lines)
    text = [sentence for group in lines for sentence in group]
    roll = rng.random()
    holding = {name: [noun] for noun, name in owners.items()}
    if roll < 0.3 and len(people) >= 2:  # a thing changes hands
        noun = rng.choice(nouns)
        giver, taker = owners[noun], rng.choice([p[0] for p in people if p[0] != owners[noun]])
        text.append(rng.choice([f"{giver} gives the {noun} to {taker}.", f"Then {giver} gives {taker} the {noun}.", f"Now {taker} takes the {noun}."]))
        holding[giver].remove(noun)
        holding[taker].append(noun)
        owners[noun] = taker
        questions = [(q, r) for q, r in questions if not q.endswith(f"{giver}'s {noun}?")]
        questions.append((f"Who has the {noun} now?", f"{taker} has the {noun}."))
    elif roll < 0.5:  # somebody moves
        i = rng.randrange(len(people))
        name = people[i][0]
        new = rng.choice([p for p in PLACES if p not in places])
        old, where = f"{PLACES[places[i]][0]} the {places[i]}", f"{PLACES[new][0]} the {new}"
        text.append(rng.choice([f"Then {name} goes to the {new}.", f"{name} walks to the {new}.", f"After that, {name} goes to the {new}."]))
        questions = [(q, f"{name} is {where}.") if q == f"Where is {name}?" else (q, r) for q, r in questions
                     if q != f"Who is {old}?"]
        questions.append((f"Who is {where}?", f"{name} is {where}."))
        questions.append((f"Where was {name} before?", f"{name} was {old}."))
    table = {noun: f"{colour} {noun}" for noun, colour in zip(nouns, colours)}
    full = []
    for question, answer in questions:
        if answer is None and question.startswith("Who has"):
            noun = question[len("Who has the "):-1]
            answer = f"{owners[noun]} has the {noun}."
        elif answer is None:
            name = question[len("What does "):-len(" have?")]
            held = holding[name]
            if len(held) == 0:
                answer = f"{name} has nothing."
            else:
                answer = f"{name} has " + " and ".join(a(table[noun]) for noun in held) + "."
        full.append((question, answer))
    if rng.random() < 0.15:
        stranger = rng.choice([n for n in BOYS + GIRLS if n not in holding])
        full = [(rng.choice([f"Where is {stranger}?", f"What does {stranger} have?"]), UNKNOWN)] + rng.sample(full, min(2, len(full)))
    asked = rng.sample(full, min(rng.choice((1, 1, 2, 3)), len(full)))
    first, answer = asked[0]
    return _system(rng), [(_with_question(rng, " ".join(text), first), answer)] + asked[1:]


# --- sums ---

HELD_OUT_SUMS = 10


def sum_is_held_out(x, y):
    """One pair of summands in ten, in both orders, is never trained on."""
    return bucket(f"{min(x, y)}+{max(x, y)}", HELD_OUT_SUMS) == 0


def pick_sum(rng, held_out):
    while True:
        x, y = (rng.randrange(10, 100), rng.randrange(10, 100)) if rng.random() < 0.85 else (rng.randrange(100), rng.randrange(100))
        if sum_is_held_out(x, y) == held_out:
            return x, y


SUM_QUESTIONS = ["What is {x} + {y}?", "What is {x} plus {y}?", "{x} + {y} = ?", "Add {x} and {y}.", "How much is {x} + {y}?",
                 "{x} + {y}", "What is the sum of {x} and {y}?", "Please add {x} and {y}.", "How much is {x} plus {y}?",
                 "What is {x}+{y}?", "{x}+{y}", "What's {x} + {y}?", "{x} plus {y}", "And {x} + {y}?"]
NUMBER_QUESTIONS = ["{x} + {y} =", "{x}+{y}=", "What is {x} + {y}? Only the number.", "What is {x} + {y}? Answer with a number."]


def sum_turn(rng, x, y):
    """A plain question about a sum, and its answer."""
    if rng.random() < 0.25:
        return rng.choice(NUMBER_QUESTIONS).format(x=x, y=y), f"{x + y}"
    return casual(rng, rng.choice(SUM_QUESTIONS).format(x=x, y=y)), f"{x} + {y} = {x + y}."


def word_problem(rng, x, y):
    one, two = rng.sample(BOYS + GIRLS, 2)
    what = rng.choice(["apples", "shells", "marbles", "nuts", "books", "coins", "flowers", "stones", "cookies", "stamps", "balls"])
    return (f"{one} has {x} {what} and {two} has {y} {what}. " + rng.choice([f"How many {what} do they have together?", f"How many {what} are there in all?"]),
            f"{x} + {y} = {x + y}. They have {x + y} {what}.")


def sums(rng, held_out):
    turns = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        x, y = pick_sum(rng, held_out)
        turns.append(word_problem(rng, x, y) if rng.random() < 0.12 else sum_turn(rng, x, y))
    return _system(rng), turns


# --- small talk ---

ABOUT = "I am a small model with ternary weights. I can tell stories, answer questions about a story, and add two numbers."
SMALL_TALK = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hi there!", "Hey", "Good morning!", "Good evening!", "Hello, how are you?"],
     ["Hello! Shall I tell you a story?"]),
    (["Who are you?", "What are you?", "What can you do?", "Tell me about yourself.", "What is your name?", "Help", "help", "How can you help me?"],
     [ABOUT]),
    (["Thank you!", "Thanks", "Thank you", "Thanks!", "Thank you very much.", "That was nice.", "That was a good story."], ["You are welcome!"]),
    (["Bye", "Goodbye", "Good night", "Bye!", "See you"], ["Goodbye! Come back soon."]),
    (["What is the capital of France?", "Who wrote this book?", "How far is the moon?", "Write a program.", "What time is it?",
      "What is the weather today?", "Who is the president?", "Translate this text.", "What is love?", "Tell me a joke.",
      "How do I cook rice?", "What is the biggest city?", "Why is the sky blue?", "What is a computer?", "Who won the game?"],
     ["I do not know that. I only know small stories and small sums."]),
]


def small_talk(rng):
    turns = []
    for _ in range(rng.choice((1, 1, 2))):
        ways, answers = rng.choice(SMALL_TALK)
        turns.append((casual(rng, rng.choice(ways)), rng.choice(answers)))
    return _system(rng), turns
