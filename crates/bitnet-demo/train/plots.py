"""Small plots: each writes one story beat by beat and notes the questions the story can answer.

A `Story` carries `sentences` (the text), `questions` (kind, ways to ask, the one right answer) and the slots that its
sentence patterns are filled with: N the hero, F the helper, O the thing ("red kite"), o ("kite"), c ("red"), P the
place ("the park"), inP ("in the park"), toP ("to the park"), spot ("under the bench"), he/him/his and their capitals.
"""

from story import Story
from words import ANIMALS, a, cap


def lost_thing(st):
    st.open()
    st.say("{N} had {aO} that {he} loved very much.", "{His} favourite thing was {aO}.",
           "{He} had {aO}, and {he} took it everywhere.", "{N} got {aO} from {elder}, and {he} loved it.")
    st.colour_question()
    st.say("One {w} {t}, {N} took the {o} {toP}.", "One {t}, {N} went {toP} and took the {o} along.",
           "On a {w} {t}, {he} carried the {o} {toP}.")
    st.away = True
    st.where()
    if st.rng.random() < 0.5:
        st.sentences.append(st.rng.choice(st.sights))
    st.say("{He} played for a long time. When it was time to go home, the {o} was gone!",
           "But when {he} looked into {his} bag, the {o} was not there.",
           "After a while, {N} saw that the {o} was gone.", "Then {he} ran and jumped, and suddenly the {o} was gone.")
    st.set("sad", ["sad", "very sad", "worried"])
    st.say("{N} was {sad}.", "{N} looked everywhere, but {he} could not find it. {He} was {sad}.",
           "\"Oh no, where is my {o}?\" {he} cried. {N} was {sad}.")
    st.ask("why", ["Why was {N} {sad}?", "Why did {N} feel {sad}?"], "{N} was {sad} because the {o} was lost.")
    st.ask("what", ["What did {N} lose?", "Which thing did {N} lose?"], "{N} lost the {O}.")
    st.say("Then {fintro} came by. \"What is wrong?\" asked {F}.", "{FIntro} heard {him}. \"Do not worry,\" said {F}. \"I will help you look.\"",
           "{FIntro} came and said, \"Let us look for it together.\"")
    st.say("They looked here and there.", "They looked up and down and all around.", "Together they searched for a long time.",
           "They walked back the same way, step by step.")
    st.say("At last, {F} found the {o} {spot}.", "Then {F} looked {spot}, and there was the {o}!",
           "After a while, {F} called, \"Here it is!\" The {o} was {spot}.")
    st.ask("found", ["Where was the {o}?", "Where did they find the {o}?", "Where was the {o} found?"], "The {o} was {spot}.")
    st.ask("finder", ["Who found the {o}?"], "{F} found the {o}.")
    st.helped()
    st.set("glad", ["happy", "very happy", "so happy", "full of joy"])
    st.say("{N} was {glad} and hugged {F}.", "\"Thank you, {F}!\" said {N}. {He} was {glad}.",
           "{N} was {glad}. \"You are a true friend,\" {he} said.")
    st.feel(st.slots["glad"])
    st.close("From that day on, {N} took good care of the {o}.", "After that, {N} always looked after the {o}.")


def stuck_thing(st):
    if st.place in ("library", "castle", "barn", "market"):
        return lost_thing(st)
    st.open()
    st.thing(st.colour, st.rng.choice(["kite", "balloon", "ball", "hat", "scarf", "ribbon"]))
    st.say("One {w} {t}, {he} went {toP} with {aO}.", "One {t}, {N} took {aO} {toP}.",
           "On a windy {t}, {N} went {toP}. {He} had {aO} with {him}.")
    st.where()
    st.colour_question()
    st.set("high", ["in a tree", "in a tall tree", "in a bush", "on the roof of a hut", "on a high wall"])
    st.say("Suddenly, a strong wind came and blew the {o} away. It got stuck {high}.",
           "The wind blew hard. Up, up went the {o}, and then it was stuck {high}.",
           "Then the wind took the {o}, and it landed {high}.")
    st.ask("stuckwhere", ["Where was the {o} stuck?", "Where did the {o} get stuck?"], "The {o} was stuck {high}.")
    st.ask("stuck", ["What was stuck?", "What got stuck?"], "The {O} was stuck.")
    st.say("{N} jumped and jumped, but {he} could not reach it.", "{N} tried to get it, but it was too high.",
           "{N} stretched {his} arms, but the {o} was too high.")
    st.say("{He} felt sad.", "{N} began to cry.", "\"I will never get it back,\" {he} said. {He} was sad.")
    st.ask("why", ["Why was {N} sad?"], "{N} was sad because the {o} was stuck.")
    st.set("tool", ["a long stick", "a ladder", "a rope", "a long pole", "a wooden box"])
    if st.rng.random() < 0.5:
        st.slots.update(H=st.slots["F"], HC=st.slots["F"])
        st.say("Just then, {fintro} came by.", "{FIntro} saw what had happened.", "But {fintro} was not far away.")
        st.helped()
    else:
        st.slots.update(H=st.slots["elder"], HC=st.slots["Elder"], qH=st.slots["nElder"])
        st.say("{N} ran home to {elder}. \"Please come and help me!\"", "Soon {elder} came to help.",
               "{Elder} saw it and came quickly.")
        st.helped("{nElder}")
    st.say("\"I have an idea,\" said {H}. {HC} came back with {tool}.", "{HC} found {tool}.", "\"Wait here,\" said {H}, and went to get {tool}.")
    st.ask("tool", ["What was used to get the {o}?", "What did they use to get the {o}?"], "They used {tool}.")
    st.say("With it, they got the {o} down.", "Very slowly and carefully, they got the {o} back.", "Soon the {o} was free again.")
    st.set("glad", ["happy", "so happy", "very glad"])
    st.say("{N} was {glad}. \"Thank you!\" {he} said.", "{N} laughed and danced. {He} was {glad}.", "\"Hooray!\" cried {N}. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("They played together until the evening.", "Now {N} always holds on tight when the wind blows.")


HARD = "ball top car train rocket robot drum marble boat wagon bell".split()
BREAKABLE = "kite boat drum doll train car rocket robot flute wagon umbrella box clock top crown lantern whistle".split()


def broken_thing(st):
    if st.noun not in BREAKABLE:
        st.thing(st.colour, st.rng.choice(BREAKABLE))
    st.open()
    st.say("{He} had {aO}.", "{N} had {aO}. It was a gift from {elder}.", "{N} loved to play with {his} {O}.")
    st.colour_question()
    st.say("One {t}, {he} was playing {inP}.", "One {w} {t}, {N} took it {toP}.", "One {t}, {N} played with it {inP}.")
    st.ask("where", ["Where did {N} play?", "Where was {N} playing?"], "{N} played {inP}.")
    st.say("{He} ran too fast and fell down. Crack! The {o} was broken.", "Then the {o} fell on a stone and broke.",
           "But {he} was not careful, and the {o} broke.", "Suddenly there was a loud crack. The {o} was broken.")
    st.ask("what", ["What broke?", "What was broken?"], "The {O} broke.")
    st.say("{N} felt very sad.", "Tears ran down {his} face. {N} was sad.", "\"My poor {o}!\" {he} said. {He} was very sad.")
    st.ask("why", ["Why was {N} sad?"], "{N} was sad because the {o} broke.")
    st.set("fix", ["glue", "strong tape", "a piece of string", "a needle and thread", "a small nail"])
    if st.rng.random() < 0.5:
        st.say("{He} showed the {o} to {elder}. \"We can fix it,\" said {elder}.", "{Elder} gave {him} a hug. \"Let us fix it together,\" {ehe} said.")
        st.say("{Elder} took {fix}, and they worked side by side.", "Then {elder} found {fix} and began to work.")
        st.helped("{nElder}")
    else:
        st.say("{FIntro} saw {him} crying. \"I can fix it,\" said {F}.", "Then {fintro} came. \"Let me see,\" said {F}.")
        st.say("{F} took {fix} and went to work.", "{F} had {fix} and knew what to do.")
        st.helped()
    st.ask("fix", ["What was used to fix the {o}?", "How was the {o} fixed?"], "The {o} was fixed with {fix}.")
    st.say("Soon the {o} was as good as new.", "After a while, the {o} was whole again.", "It took a long time, but at last the {o} was fixed.")
    st.set("glad", ["happy", "very happy", "thankful"])
    st.say("{N} was {glad}.", "\"Thank you so much!\" said {N}. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("{N} learned that many broken things can be mended.", "From then on, {he} was more careful.")


def sharing(st):
    st.open()
    st.go(0.4)
    st.say("There {he} met {fintro}.", "{FIntro} was there too.", "Soon {he} saw {fintro}.")
    st.ask("met", ["Who did {N} meet?", "Whom did {N} meet?"], "{N} met {F}.")
    st.say("They saw {aO} lying on the ground.", "On the ground lay {aO}.", "They found {aO} {spot}.")
    st.colour_question()
    st.ask("what", ["What did they find?"], "They found {aO}.")
    st.say("\"I saw it first!\" said {N}. \"No, I did!\" said {F}.", "\"It is mine!\" cried {N}. \"No, mine!\" cried {F}.",
           "Both of them wanted it. They pulled and pulled.")
    st.ask("why", ["Why were {N} and {F} angry?", "Why were they angry?"], "They were angry because both wanted the {o}.")
    st.say("They were angry and did not talk for a while.", "They were both angry.", "Soon both of them were angry.")
    st.say("Then {N} had an idea. \"Let us take turns,\" {he} said.", "Then {N} thought for a moment. \"We can share it,\" {he} said.",
           "After a while, {N} said, \"I am sorry. Let us play together.\"")
    st.ask("idea", ["Who had the idea to share?", "Who wanted to share?"], "{N} wanted to share.")
    st.say("{F} liked the idea.", "\"That is a good idea,\" said {F}.", "{F} smiled and said yes.")
    st.say("First {F} played with the {o}, and then {N} did.", "So they took turns with the {o} until the evening.",
           "They played with the {o} together, and it was much more fun.")
    st.set("glad", ["happy", "glad", "very happy"])
    st.say("In the end, {N} and {F} were {glad}.", "Now both of them were {glad}.")
    st.feel(st.slots["glad"])
    st.close("{N} learned that sharing is better than fighting.", "From that day on, they were best friends.")


def honest_finder(st):
    st.open()
    st.go(0.5)
    st.slots["Spot"] = cap(st.slots["spot"])
    st.say("{Spot} {he} saw {aO}.", "There, {spot}, {he} found {aO}.", "Something was shining {spot}. It was {aO}.")
    st.colour_question()
    st.ask("what", ["What did {N} find?"], "{N} found {aO}.")
    st.ask("found", ["Where was the {o}?", "Where did {N} find the {o}?"], "The {o} was {spot}.")
    st.say("\"How beautiful!\" {he} thought. {He} wanted to keep it.", "{N} wanted to keep it. But was it right?",
           "{He} picked it up and looked at it. \"Whose is this?\" {he} wondered.")
    st.say(f"Then {{he}} heard somebody crying. It was {a(st.friend_kind)} named {{F}}.",
           "Not far away, {fintro} was looking for something.", "Just then, {fintro} came along with a sad face.")
    st.say("\"I have lost my {o},\" said {F}.", "\"Have you seen my {o}?\" asked {F}.", "\"My {o} is gone,\" said {F} softly.")
    st.ask("owner", ["Whose {o} was it?", "Who had lost the {o}?"], "The {o} belonged to {F}.")
    st.say("{N} gave the {o} back at once.", "\"Here it is,\" said {N}, and gave the {o} back.", "{N} held out the {o}. \"I found it for you,\" {he} said.")
    st.set("gift", ["a sweet apple", "a cookie", "a pretty shell", "a yellow flower", "a piece of cake", "a shiny stone"])
    st.say("{F} was so glad that {fhe} gave {N} {gift}.", "\"Thank you!\" said {F}, and {fhe} gave {N} {gift}.")
    st.ask("gift", ["What did {F} give to {N}?", "What did {N} get from {F}?"], "{F} gave {N} {gift}.")
    st.set("glad", ["proud", "happy", "warm inside"])
    st.say("{N} felt {glad}.", "{N} went home and felt {glad}.")
    st.feel(st.slots["glad"])
    st.close("{N} knew that {he} had done the right thing.", "After that, {N} and {F} often played together.")


def brave(st):
    st.open()
    fears = {
        "deep water": (["lake", "river", "beach"], "{N} put one foot into the water and then the other"),
        "high places": (["hill", "castle", "playground", "barn"], "{N} climbed up, one step after the other"),
        "the dark": (["barn", "castle", "forest", "library"], "{N} went into the darkest corner and saw a small light"),
        "big dogs": (["park", "farm", "village", "market"], "a big dog came, and {N} held out {his} hand"),
        "loud noises": (["market", "village", "playground", "farm"], "there was a loud bang, but {N} did not run away"),
        "thunder": (["meadow", "garden", "hill", "forest"], "the thunder came, but {N} took a deep breath and stayed"),
    }
    fear = st.rng.choice([f for f, (places, _) in fears.items() if st.place in places])
    st.slots["fear"] = fear
    st.say("But there was one thing: {N} was afraid of {fear}.", "{N} was afraid of {fear}.", "{He} was not afraid of many things, only of {fear}.")
    st.ask("fear", ["What was {N} afraid of?"], "{N} was afraid of {fear}.")
    st.go(0.5)
    st.say("{N} wanted to play there, but {he} was too afraid.", "{He} stopped and did not want to go on. {His} legs were shaking.",
           "{His} heart beat fast, and {he} wanted to go home.")
    st.say("{FIntro} took {his} hand. \"I was afraid too,\" said {F}. \"We can do it together.\"",
           "Then {fintro} said, \"I will stay with you.\"",
           "{FIntro} saw it and said, \"You are braver than you think.\"")
    st.helped()
    if st.rng.random() < 0.5:
        st.say("{F} gave {him} {aO}. \"It brings good luck,\" {fhe} said.", "Then {F} gave {him} {aO} to hold.")
        st.colour_question()
        st.ask("gift", ["What did {F} give to {N}?", "What did {N} get from {F}?"], "{F} gave {N} {aO}.")
    deed = fears[fear][1]
    st.say("So they went on. " + cap(deed) + ".", "After a while, " + deed + ".")
    st.say("Nothing bad happened.", "It was not so bad at all.", "And it was not scary any more.")
    st.set("glad", ["brave", "proud", "very proud"])
    st.say("{N} felt {glad}.", "\"I did it!\" said {N}. {He} felt {glad}.", "{N} laughed out loud. {He} felt {glad}.")
    st.feel(st.slots["glad"])
    st.close("After that, {N} was not afraid of {fear} any more.", "{N} thanked {F} and went home with a big smile.")


def baking(st):
    st.move("village", "market", "farm")
    st.open()
    st.slots["aB"] = a(f"{st.colour} {st.rng.choice(['basket', 'bag', 'bucket', 'backpack'])}")
    st.set("cake", ["a cake", "an apple pie", "cookies", "bread", "pancakes", "a plum cake"])
    st.set("miss", ["eggs", "milk", "sugar", "flour", "butter", "honey"])
    st.say("It was {F}'s birthday, and {N} wanted to bake {cake} for {fhim}.", "One {t}, {N} wanted to bake {cake} for {his} friend {F}.",
           "{His} friend {F} was sick, so {N} wanted to bake {cake} for {fhim}.")
    st.ask("bake", ["What did {N} want to bake?", "What did {N} bake?"], "{N} baked {cake}.")
    st.ask("forwhom", ["Who was the gift for?", "Who did {N} bake for?"], "{N} baked for {F}.")
    st.say("But there was no {miss} in the kitchen.", "{He} looked in the kitchen, but there was no {miss}.", "\"Oh no,\" said {N}. \"We have no {miss}.\"")
    if st.slots["miss"] == "eggs":
        st.sentences[-1] = st.sentences[-1].replace("there was", "there were")
    st.ask("missing", ["What was missing?", "What did {N} not have?"], "{N} had no {miss}.")
    st.say("So {he} went {toP} to get some.", "{He} put on {his} shoes and walked {toP} to ask for some.",
           "{He} took {aB} and went {toP}.")
    st.where()
    if st.slots["aB"] in st.sentences[-1]:
        st.ask("basket", ["What did {N} take along?"], "{N} took {aB}.")
    st.set("giver", ["an old woman", "an old man", "a kind farmer", "a friendly baker", "a tall man", "a kind lady"])
    st.slots["Giver"] = cap(st.slots["giver"])
    st.say("There {he} met {giver} who had some {miss} for {him}.", "{Giver} gave {him} some {miss}.",
           "There {giver} smiled at {him} and gave {him} some {miss}.")
    st.ask("giver", ["Who gave {N} the {miss}?", "From whom did {N} get the {miss}?"], "{Giver} gave {N} the {miss}.")
    st.say("Back home, {N} mixed everything in a big bowl.", "Then {he} ran home and mixed and stirred.", "At home, {elder} helped {him} with the hot oven.")
    st.say("Soon the whole house smelled sweet.", "It smelled so good!", "After an hour, it was ready.")
    st.set("glad", ["happy", "glad", "very happy"])
    st.say("When {F} took the first bite, {fhe} smiled. \"It is the best in the world!\" {N} was {glad}.",
           "{F} ate it all and laughed. \"Thank you, {N}!\" {N} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("They ate together and sang a song.")


def lost_animal(st):
    st.open()
    st.go(0.5)
    st.set("baby", ["kitten", "puppy", "duckling", "bird", "piglet", "bunny", "chick", "foal"])
    st.slots["Spot"] = cap(st.slots["spot"])
    st.say("Suddenly {he} heard a small cry. {Spot} sat a little {baby}.", "There {he} saw a little {baby} {spot}. It was all alone.",
           "Then {he} found a little {baby} {spot}.")
    st.ask("what", ["What did {N} find?", "Which animal did {N} find?"], "{N} found a little {baby}.")
    st.ask("found", ["Where was the {baby}?", "Where did {N} find the {baby}?"], "The {baby} was {spot}.")
    st.set("need", ["cold", "hungry", "lost", "thirsty"])
    st.say("The {baby} was {need} and looked at {him} with big eyes.", "It was {need} and very small.", "\"You poor thing,\" said {N}. \"You are {need}.\"")
    st.ask("need", ["How was the {baby}?", "What was wrong with the {baby}?"], "The {baby} was {need}.")
    care = {"cold": ["a warm blanket", "a soft scarf"], "hungry": ["some bread", "a piece of apple", "some soft cheese"],
            "thirsty": ["some water", "some milk"], "lost": ["a gentle hug", "a little song"]}[st.slots["need"]]
    st.set("care", care)
    st.say("So {N} gave it {care}.", "{N} sat down and gave it {care}.", "{He} knew what to do and gave it {care}.")
    st.ask("care", ["What did {N} give to the {baby}?", "What did {N} give the {baby}?"], "{N} gave it {care}.")
    if st.rng.random() < 0.5:
        st.say("Then {fintro} came by. \"I know where its mother is,\" said {F}.", "{FIntro} came by. \"I know its home,\" said {F}.",
               "\"Where is your home?\" asked {N}. \"I know it,\" said {fintro}.")
        st.helped()
        st.say("Together they brought the {baby} back to its mother.", "They walked along the path until they found its mother.")
    else:
        st.say("After a while, they heard its mother calling.", "{N} carried it along the path until they found its mother.")
    st.say("The mother was so happy to see her little one.", "How happy the mother was!")
    st.set("glad", ["happy", "glad", "proud"])
    st.say("{N} was {glad} too.", "{N} waved goodbye and felt {glad}.")
    st.feel(st.slots["glad"])
    st.close("Every day after that, the {baby} came to say hello.")


def seed(st):
    st.move("garden", "park", "meadow", "farm", "hill", "village")
    st.open()
    st.set("plant", ["sunflower", "apple tree", "pumpkin", "rose", "bean plant", "cherry tree", "tulip"])
    st.say("One {t}, {elder} gave {him} a tiny seed.", "One {w} {t}, {he} got a small seed from {elder}.")
    st.ask("giver", ["Who gave {N} the seed?", "From whom did {N} get the seed?"], "{nElder} gave {N} the seed.")
    st.say("{He} planted it {inP}.", "{N} put it into the earth {inP}.", "{N} dug a hole {inP} and put the seed in.")
    st.ask("where", ["Where did {N} plant the seed?"], "{N} planted the seed {inP}.")
    st.say("Every day {he} gave it water, but nothing happened.", "{N} waited and waited, but there was only brown earth.",
           "{He} watered it each morning. Still nothing grew.")
    st.say("\"It will never grow,\" {he} said sadly.", "{N} was sad and wanted to give up.", "\"Maybe the seed is asleep,\" said {N}. {He} was a little sad.")
    st.ask("why", ["Why was {N} sad?"], "{N} was sad because nothing grew.")
    st.say("{FIntro} came to visit. \"Be patient,\" said {F}. \"Good things take time.\"", "{FIntro} told {him}, \"You must be patient.\"", "But {fintro} said, \"Do not give up. Wait a little more.\"")
    st.ask("advice", ["Who told {N} to be patient?", "Who told {N} to wait?"], "{F} told {N} to wait.")
    st.say("So {N} waited. Then, after the rain, a green leaf came out of the earth.", "Days went by. One morning there was a tiny green leaf.",
           "Then the warm sun came, and a little green leaf looked out.")
    st.say("It grew and grew until it was a beautiful {plant}.", "Week after week it grew, and at last there stood a big {plant}.")
    st.ask("plant", ["What grew from the seed?", "What did the seed become?"], f"The seed became {a(st.slots['plant'])}.")
    st.set("glad", ["proud", "very happy", "full of joy"])
    st.say("{N} was {glad}.", "\"Look, it is here!\" cried {N}. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("{N} learned that good things take time.", "{N} gave a new seed to {F}.")


def learning(st):
    st.open()
    st.set("skill", ["swim", "whistle", "ride a bicycle", "dance", "play the flute", "juggle", "skate", "climb", "paint", "row a boat"])
    st.say("More than anything, {N} wanted to learn to {skill}.", "{N} wanted to {skill}, but {he} did not know how.", "{He} had one big wish: {he} wanted to {skill}.")
    st.ask("wish", ["What did {N} want to learn?", "What did {N} want to do?"], "{N} wanted to {skill}.")
    st.go(0.5)
    st.say("There {he} tried it, but it did not work.", "{He} tried once. {He} tried twice. It did not work.", "\"It is too hard,\" {he} said after the first try.")
    st.say("Some birds laughed, and {N} felt silly.", "{N} sat down and was sad.", "{He} wanted to give up.")
    st.say("Then {fintro} sat down beside {him}. \"I will show you,\" said {F}.", "{FIntro} said, \"Try again. I will help you.\"", "Then {fintro} came. \"Nobody can do it the first time,\" said {F}.")
    st.ask("teacher", ["Who taught {N}?", "Who helped {N}?", "Who showed {N} how to do it?"], "{F} helped {N}.")
    st.set("long", ["three days", "a week", "many days", "the whole summer", "two weeks", "five days"])
    st.say("They practised for {long}.", "For {long}, they practised together.", "So {N} practised for {long}.")
    st.ask("long", ["How long did {N} practise?", "How long did they practise?"], "They practised for {long}.")
    st.say("And then, one {t}, {N} could {skill}!", "At last, {N} could {skill} very well.", "Then, all at once, it worked. {N} could {skill}!")
    if st.rng.random() < 0.6:
        st.say("{F} clapped and gave {him} {aO}.", "As a prize, {F} gave {him} {aO}.")
        st.ask("gift", ["What did {F} give to {N}?", "What did {N} get from {F}?"], "{F} gave {N} {aO}.")
        st.colour_question()
    st.set("glad", ["proud", "very proud", "so happy"])
    st.say("{N} was {glad}.", "\"I can do it!\" {he} cried. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("{N} learned never to give up.", "Now {N} helps others to learn.")


def kindness_returns(st):
    st.open()
    st.set("food", ["a piece of bread", "an apple", "some nuts", "a carrot", "a sandwich", "some berries"])
    st.go(0.4)
    st.say("{He} had {food} with {him}.", "{He} had brought {food} for lunch.", "In {his} bag was {food}.")
    kind = st.rng.choice([k for k in ANIMALS if k != st.kind])
    adj = st.rng.choice(["old", "thin", "tired", "little"])
    st.slots.update(beast=kind, adjbeast=a(f"{adj} {kind}"))
    st.say("On the way, {he} met {adjbeast}. \"I am so hungry,\" said the {beast}.", "There sat {adjbeast}. The {beast} was very hungry.")
    st.ask("met", ["Whom did {N} meet?", "Who did {N} meet?"], "{N} met {adjbeast}.")
    st.ask("why", ["Why did {N} share?", "Why did {N} give food to the {beast}?"], "The {beast} was hungry.")
    st.say("{N} was hungry too, but {he} gave half of it to the {beast}.", "{N} smiled and shared it with the {beast}.", "\"You can have it,\" said {N}, and gave it to the {beast}.")
    st.ask("share", ["What did {N} share?", "What did {N} give to the {beast}?"], "{N} gave {food} to the {beast}.")
    st.say("\"I will not forget this,\" said the {beast}.", "\"Thank you, {N},\" said the {beast}.")
    if st.rng.random() < 0.5:
        st.say("Later, {N} lost {his} {O}. {He} looked everywhere.", "The next day, {N} could not find {his} {O}.")
        st.ask("what", ["What did {N} lose?"], "{N} lost the {O}.")
        st.colour_question()
        st.say("But the {beast} had found it {spot} and brought it back.", "Then the {beast} came. It had found the {o} {spot}.")
        st.ask("found", ["Where was the {o}?", "Where was the {o} found?"], "The {o} was {spot}.")
    else:
        st.say("Later it grew dark, and {N} could not find the way home.", "In the evening, {N} was lost and could not find the way.")
        st.say("Then the {beast} came. \"Follow me,\" it said, and showed {him} the way home.", "But the {beast} was there and led {him} home.")
        st.ask("lead", ["Who showed {N} the way home?", "Who brought {N} home?"], "The {beast} showed {N} the way home.")
    st.set("glad", ["thankful", "happy", "very glad"])
    st.say("{N} was {glad}.", "\"Now you have helped me,\" said {N}. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("Kindness always comes back.", "From that day on, they were friends.")


def rainy_day(st):
    st.open()
    st.say("{N} wanted to go {toP}, but it was raining.", "One {t}, {N} wanted to go {toP}. But rain was falling from a grey sky.",
           "It rained and rained, and {N} could not go {toP}.")
    st.ask("wish", ["Where did {N} want to go?"], "{N} wanted to go {toP}.")
    st.ask("why", ["Why did {N} stay at home?", "Why did {N} not go {toP}?"], "{N} stayed at home because it was raining.")
    st.say("\"This is so boring,\" {he} said.", "{He} sat at the window and was sad.", "{N} looked at the rain and made a long face.")
    st.set("play", ["a tent out of blankets", "a castle out of boxes", "a ship out of chairs", "a train out of chairs", "a cave out of pillows"])
    st.say("Then {elder} had an idea. \"Let us build {play},\" {ehe} said.", "\"Let us build {play},\" said {elder}.")
    st.ask("idea", ["Who had the idea?", "Whose idea was it?"], "{nElder} had the idea.")
    st.ask("build", ["What did they build?"], "They built {play}.")
    st.say("They worked and laughed all day long.", "Soon the whole room was full of laughter.")
    st.say("{FIntro} came to visit and brought {aO}.", "Then {fintro} came to visit with {aO}.")
    st.ask("visitor", ["Who came to visit?", "Who visited {N}?"], "{F} came to visit.")
    st.ask("gift", ["What did {F} bring?"], "{F} brought {aO}.")
    st.colour_question()
    st.say("They played until dinner.", "All together they played and told stories.", "They ate cookies and told stories.")
    st.set("glad", ["happy", "very happy", "glad"])
    st.say("When the sun came out, {N} did not even see it. {He} was {glad}.", "\"I like rain,\" said {N}. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("It was the best rainy day of all.")


def truth(st):
    if st.noun not in HARD:
        st.thing(st.colour, st.rng.choice(HARD))
    st.open()
    st.set("dear", ["vase", "window", "cup", "plate", "lamp", "flower pot", "mirror"])
    st.slots["owner"] = st.slots["elder"]
    st.say("One {t}, {he} was playing with {his} {O} at home.", "One {w} {t}, {N} played with {aO} in the house.")
    st.colour_question()
    st.ask("what", ["What did {N} play with?", "What was {N} playing with?"], "{N} played with {aO}.")
    st.say("Bang! The {o} hit the {dear}, and the {dear} broke.", "The {o} flew through the room and broke the {dear}.")
    st.ask("broke", ["What broke?", "What did {N} break?"], "The {dear} broke.")
    st.say("It was the {dear} that {elder} loved.", "{Elder} loved that {dear} very much.")
    st.ask("whose", ["Who loved the {dear}?"], "{nElder} loved the {dear}.")
    st.say("{N} was scared. Should {he} hide it?", "{N} wanted to run away and hide.", "\"Nobody saw it,\" thought {N}. But {he} felt bad.")
    st.say("\"You should tell the truth,\" said {fintro}.", "{FIntro} said, \"It is better to tell the truth.\"")
    st.ask("advice", ["Who told {N} to tell the truth?"], "{F} told {N} to tell the truth.")
    st.say("So {N} went to {elder}. \"I broke it. I am sorry,\" {he} said.", "{N} took a deep breath and told {elder} everything.")
    st.say("{Elder} was not angry. \"I am glad that you told me,\" {ehe} said.", "\"Thank you for telling the truth,\" said {elder}, and gave {him} a hug.")
    st.set("glad", ["better", "much better", "glad"])
    st.say("{N} felt {glad}.", "Now {N} felt {glad}.")
    st.feel(st.slots["glad"])
    st.close("Together they cleaned the room.", "{N} learned that it is good to tell the truth.")


def race(st):
    st.open()
    st.say("One {w} {t}, there was a race {inP}.", "One {t}, everyone came {toP} for the big race.")
    st.ask("where", ["Where was the race?"], "The race was {inP}.")
    st.say("{N} wanted to win {aO}, the first prize.", "The prize was {aO}, and {N} wanted to win it.")
    st.ask("prize", ["What was the prize?", "What could one win?"], "The prize was {aO}.")
    st.colour_question()
    st.say("{FIntro} was the fastest of all.", "{FIntro} wanted to win too.", "{FIntro} was there to run as well.")
    st.say("\"One, two, three, go!\" Everyone ran.", "They ran as fast as they could.")
    st.say("{N} was in front. But then {F} fell down and hurt {fhis} foot.", "Just before the end, {F} fell over a stone.")
    st.ask("fell", ["Who fell down?", "Who fell?"], "{F} fell down.")
    st.say("{N} stopped and helped {fhim} up.", "{N} did not run on. {He} went back and helped {F} to stand up.")
    st.ask("stop", ["Why did {N} stop?"], "{N} stopped to help {F}.")
    st.say("They walked over the line together, the last of all.", "So {N} did not win the race.")
    st.say("But everyone clapped, and they gave the prize to {N}.", "But because {he} was so kind, {N} got the {o} after all.")
    st.set("glad", ["proud", "happy", "very surprised"])
    st.say("{N} was {glad}.", "\"For me?\" asked {N}. {He} was {glad}.")
    st.feel(st.slots["glad"])
    st.close("To be kind is better than to be first.", "{N} and {F} became best friends.")


PLOTS = [lost_thing, stuck_thing, broken_thing, sharing, honest_finder, brave, baking, lost_animal, seed, learning,
         kindness_returns, rainy_day, truth, race]

def story(rng, plot=None):
    """One finished story."""
    st = Story(rng)
    (plot or rng.choice(PLOTS))(st)
    return st
